package api_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
)

// A dozen uploads at once, each with some hundred megabytes of copies in memory,
// could end the control plane of everybody; so could downloads, and whoever sent
// an upload byte by byte.
func TestOneAccountDoesNotTakeAllMemory(t *testing.T) {
	p := newPlatform(t)
	p.deployWorker(t, "shop", `{"main_module": "index.js"}`)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	p.server.NeverWaitForTurns()
	content := func() int { return p.call(t, http.MethodGet, "/workers/scripts/shop/content", "").status }
	// Asking for a turn to see whether one is free could take it from an upload.
	untilTaken := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); p.server.TurnsTaken(account) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d turns are taken, want %d", p.server.TurnsTaken(account), want)
			}
		}
	}

	slow := make(chan error, api.Turns)
	var bodies []*io.PipeWriter
	for range api.Turns {
		body, writer := io.Pipe()
		bodies = append(bodies, writer)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.url+"/client/v4/accounts/"+account+"/workers/scripts/slow", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = bearer(p.token)
		req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		go func() {
			res, err := http.DefaultClient.Do(req)
			if err == nil {
				err = res.Body.Close()
			}
			slow <- err
		}()
	}
	untilTaken(api.Turns)
	if status := content(); status != http.StatusServiceUnavailable {
		t.Errorf("a download beyond the turns was answered %d", status)
	}
	p.call(t, http.MethodGet, "/workers/scripts/shop/versions", "").ok(t) // has no modules
	p.send(t, http.MethodPut, "/workers/scripts/more", `{"main_module": "index.js"}`, index).want(t, http.StatusServiceUnavailable, 10013, "too many uploads")
	if _, err := p.store.CreateVersion(t.Context(), other.ID, "theirs", deploy.Version{Origin: &deploy.Origin{URL: "http://localhost"}}); err != nil {
		t.Fatal(err)
	}
	contentType, form := formBody(t, "metadata", `{"main_module": "index.js"}`, index)
	header := bearer(p.token)
	header.Set("Content-Type", contentType)
	p.do(t, http.MethodPost, "/client/v4/accounts/"+other.ID+"/workers/scripts/theirs/versions", header, form).ok(t)

	for _, body := range bodies {
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		if err := <-slow; err != nil {
			t.Error(err)
		}
	}
	untilTaken(0)
	if status := content(); status != http.StatusOK {
		t.Errorf("a download after the uploads was answered %d", status)
	}
}
