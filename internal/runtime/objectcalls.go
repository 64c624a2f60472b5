package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

const (
	permitPath    = "/objects/permit"
	permitBodyMax = 8 << 20 // with what objects.js released since the last one
)

// servePermit answers a process that asks where an object may be called (objects.js).
func (in *instance) servePermit(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Object   string
		Released []struct {
			Object string
			Serial uint64
		}
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, permitBodyMax)).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, given := range asked.Released {
		if name, ok := parseObjectKey(given.Object); ok {
			in.set.homes.release(in, name, given.Serial)
		}
	}
	name, ok := parseObjectKey(asked.Object)
	if !ok {
		http.Error(w, "that is no Durable Object", http.StatusBadRequest)
		return
	}
	p, err := in.set.homes.permit(r.Context(), in, name)
	if err != nil {
		// The text is what the caller's JavaScript catches.
		http.Error(w, "The Durable Object cannot be called: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // the process is gone
}

// parseObjectKey reads a namespace's id with an object's behind it.
func parseObjectKey(key string) (objectName, bool) {
	const namespaceChars = 32
	if len(key) < namespaceChars {
		return objectName{}, false
	}
	o := objectName{key[:namespaceChars], key[namespaceChars:]}
	return o, namespacePattern.MatchString(o.namespace) && objectPattern.MatchString(o.id)
}

// order is what objects.js is to do with an object of its process.
type order struct {
	ID         string `json:"id"`
	Entrypoint string `json:"entrypoint"`
	Alarm      int64  `json:"alarm,omitempty"` // Unix milliseconds
	Force      bool   `json:"force,omitempty"` // with handlers of it running, too
}

// revoke takes back permits up to a serial and returns how many calls were made with
// them, or with earlier ones, and have not ended.
func (in *instance) revoke(ctx context.Context, serial uint64, objects []string) (calls int, err error) {
	var answer struct{ Calls int }
	err = in.control(ctx, "/objects/revoke", struct {
		Serial  uint64   `json:"serial"`
		Objects []string `json:"objects"`
	}{serial, objects}, &answer)
	return answer.Calls, err
}

// control sends an order to our own Worker in the process.
func (in *instance) control(ctx context.Context, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{}, Host: "router", RequestURI: path, Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)),
	}).WithContext(ctx)
	resp, err := in.router.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("version %s, %s: %w", in.versionID, path, errors.New(string(got)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(got, answer)
}
