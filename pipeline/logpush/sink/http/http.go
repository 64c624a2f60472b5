// Package http is the destination for any HTTP receiver: one POST a batch.
//
// The contract, for whoever writes a receiver:
//
//   - The body is always gzip, with Content-Encoding: gzip. Content-Type is
//     application/x-ndjson or text/csv, unless header_Content-Type says otherwise.
//   - Any 2xx takes the batch. Everything else leaves it with us: it comes again,
//     after a pause that doubles up to a minute, or as long as Retry-After asks.
//   - Tidegate-Batch-Id names a batch for good. The same batch may come twice, so
//     a receiver that has it already may answer 200 and forget it.
//   - Tidegate-Job-Id, Tidegate-Dataset and Tidegate-Records tell where it comes
//     from and how many records it has.
//   - Before a job is accepted, one test batch comes without job and batch id; it
//     holds {"content":"tests"}.
//
// Parameters header_<Name>=<value> of a destination_conf become headers and are
// not sent in the URL; all others stay there. Redirects are not followed.
package http

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

const userAgent = "Tidegate-Logpush/1.0"

// Headers that identify a batch.
const (
	HeaderBatchID = "Tidegate-Batch-Id"
	HeaderJobID   = "Tidegate-Job-Id"
	HeaderDataset = "Tidegate-Dataset"
	HeaderRecords = "Tidegate-Records"
)

// Options of every HTTP destination.
type Options struct {
	Egress egress.Policy
}

type sink struct {
	client *http.Client
	url    url.URL // path with {DATE}, query without header_*
	header http.Header
}

// New returns the sink of an https:// or, where the policy allows it, http:// URL.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	if err := options.Egress.CheckScheme(u.Scheme); err != nil {
		return nil, err
	}
	if u.Hostname() == "" {
		return nil, errors.New("the host is missing")
	}
	s := &sink{client: options.Egress.Client(), url: *u, header: http.Header{}}
	var kept []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return nil, errors.New("a parameter is not URL-encoded")
		}
		name, isHeader := strings.CutPrefix(name, "header_")
		if !isHeader {
			kept = append(kept, pair) // as it was written: a receiver may sign or compare it
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return nil, fmt.Errorf("the value of header_%s is not URL-encoded", name)
		}
		if err := s.addHeader(name, value); err != nil {
			return nil, err
		}
	}
	s.url.RawQuery = strings.Join(kept, "&")
	return s, nil
}

// ours are the headers that a destination_conf cannot set.
var ours = map[string]bool{
	"Host": true, "Content-Length": true, "Content-Encoding": true, "Transfer-Encoding": true,
	"Connection": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true,
	HeaderBatchID: true, HeaderJobID: true, HeaderDataset: true, HeaderRecords: true,
}

func (s *sink) addHeader(name, value string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("header_%s does not name a header", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return fmt.Errorf("the value of header_%s has characters that a header cannot have", name)
	case ours[http.CanonicalHeaderKey(name)]:
		return fmt.Errorf("header_%s cannot be set: delivery sets this header itself", name)
	case s.header.Get(name) != "":
		return fmt.Errorf("header_%s is given twice", name)
	}
	s.header.Set(name, value)
	return nil
}

// Put implements logpush.Sink.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	target := s.url
	if strings.Contains(target.Path, "{DATE}") {
		target.Path = strings.ReplaceAll(target.Path, "{DATE}", o.Date.UTC().Format("20060102"))
		target.RawPath = ""
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(o.Body))
	if err != nil { // New let no such URL pass
		return &logpush.UploadError{Text: "the URL cannot be used", Permanent: true}
	}
	request.Header = s.header.Clone()
	setDefault(request.Header, "User-Agent", userAgent)
	setDefault(request.Header, "Content-Type", o.ContentType)
	request.Header.Set("Content-Encoding", "gzip")
	request.Header.Set(HeaderDataset, o.Dataset)
	request.Header.Set(HeaderRecords, strconv.Itoa(o.Records))
	if o.BatchID != "" {
		request.Header.Set(HeaderBatchID, o.BatchID)
		request.Header.Set(HeaderJobID, strconv.FormatInt(o.JobID, 10))
	}
	response, err := s.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return egress.Classify(err)
	}
	defer response.Body.Close()
	// What the receiver says is part of the error; the rest is read a little so
	// that the connection can be used again.
	body, readErr := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if response.StatusCode/100 == 2 {
		return nil // it has the batch, whatever became of its answer
	}
	if readErr != nil && len(body) == 0 && ctx.Err() != nil {
		return ctx.Err()
	}
	return &logpush.UploadError{
		Status:     response.StatusCode,
		Text:       logpush.TextOf(body),
		Permanent:  permanent(response.StatusCode),
		RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
}

func setDefault(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

// permanent tells a refusal from trouble that may pass: of the 4xx, 408 and 429
// ask to come again, and 425 is a matter of the connection. A redirect stays one.
func permanent(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status >= 300 && status < 500
}

// retryAfter reads the header's two forms, seconds and a date; 0 when it is
// neither or past.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		const most = 1 << 30 // seconds; more would overflow, and nobody waits that long
		return time.Duration(min(max(seconds, 0), most)) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}
