package intake

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/signature"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

const userAgent = "Tidegate-Logpush/1.0"

// Headers that identify a batch, and the one that signs it.
const (
	HeaderBatchID   = "Tidegate-Batch-Id"
	HeaderJobID     = "Tidegate-Job-Id"
	HeaderDataset   = "Tidegate-Dataset"
	HeaderRecords   = "Tidegate-Records"
	HeaderSignature = signature.Header
)

// Bounds on an answer: what is kept of it, where a service needs no more, and how
// long its body may take, so that a destination that drips byte after byte cannot
// hold a delivery for ever.
const (
	answerMax  = 64 << 10 // bytes
	answerTime = 10 * time.Second
)

// endpoint is where a destination takes batches.
type endpoint struct {
	client    *http.Client
	url       url.URL
	header    http.Header
	answerMax int64 // how much of an answer is kept, in bytes
	// answerCounts says that a 2xx may still tell of records that were refused.
	answerCounts bool
}

// payload is the body of one request.
type payload struct {
	contentType string
	encoding    string                        // Content-Encoding; empty for none
	open        func() (io.ReadCloser, error) // the body; may be called again
	length      int64                         // of the body; -1 where nobody knows yet
	signature   string                        // empty for none
}

// inGzip is a payload that is there already, as the gzip file of an object.
func inGzip(contentType string, body []byte) payload {
	return payload{
		contentType: contentType, encoding: "gzip", length: int64(len(body)),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}
}

// compress makes a payload of what write writes.
func compress(contentType string, write func(io.Writer) error) (payload, error) {
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	if err := write(zip); err != nil {
		return payload{}, err
	}
	if err := zip.Close(); err != nil {
		return payload{}, err
	}
	return inGzip(contentType, body.Bytes()), nil
}

// rawDate finds {DATE} in a path as it was written.
var rawDate = regexp.MustCompile(`(?i:\{|%7b)DATE(?i:\}|%7d)`)

// request is a POST with one header more or less than the endpoint's own.
func (e *endpoint) request(ctx context.Context, o *logpush.Object, p payload) (*http.Request, error) {
	target := e.url
	if strings.Contains(target.Path, "{DATE}") {
		date := o.Date.UTC().Format("20060102")
		target.Path = strings.ReplaceAll(target.Path, "{DATE}", date)
		target.RawPath = rawDate.ReplaceAllString(target.RawPath, date) // which may have a slash as %2F
	}
	body, err := p.open()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), body)
	if err != nil {
		return nil, err
	}
	request.GetBody, request.ContentLength = p.open, p.length
	request.Header = e.header.Clone()
	setDefault(request.Header, "User-Agent", userAgent)
	setDefault(request.Header, "Content-Type", p.contentType)
	set(request.Header, "Content-Encoding", p.encoding)
	set(request.Header, HeaderSignature, p.signature)
	request.Header.Set(HeaderDataset, o.Dataset)
	request.Header.Set(HeaderRecords, strconv.Itoa(o.Records))
	if o.BatchID != "" {
		request.Header.Set(HeaderBatchID, o.BatchID)
		request.Header.Set(HeaderJobID, strconv.FormatInt(o.JobID, 10))
	}
	return request, nil
}

// post sends a payload and returns the start of the answer of a destination that
// took it. Its error is an *logpush.UploadError or ctx's.
func (e *endpoint) post(ctx context.Context, o *logpush.Object, p payload) ([]byte, error) {
	request, err := e.request(ctx, o, p)
	if err != nil {
		return nil, &logpush.UploadError{Text: "the request cannot be made: " + err.Error(), Permanent: true}
	}
	answer, whole, err := do(e.client, request, e.answerMax)
	if err == nil && !whole && e.answerCounts {
		err = &logpush.UploadError{Text: "the connection broke before the answer had said which records were taken"}
	}
	return answer, err
}

// do sends a request and reads its answer up to most bytes, as post says. Whole is false
// where the answer of a success broke off.
func do(client *http.Client, request *http.Request, most int64) (answer []byte, whole bool, err error) {
	ctx, cancel := context.WithCancel(request.Context())
	defer cancel()
	response, err := client.Do(request.WithContext(ctx))
	if err != nil {
		if request.Context().Err() != nil {
			return nil, false, request.Context().Err()
		}
		return nil, false, egress.Classify(err)
	}
	defer response.Body.Close()
	// What the receiver says is part of the error; the rest is read a little so
	// that the connection can be used again.
	defer time.AfterFunc(answerTime, cancel).Stop()
	body, readErr := io.ReadAll(io.LimitReader(response.Body, most))
	if response.StatusCode/100 == 2 {
		return body, readErr == nil, nil // it has the batch, whatever became of its answer
	}
	if readErr != nil && len(body) == 0 && request.Context().Err() != nil {
		return nil, false, request.Context().Err()
	}
	return nil, false, &logpush.UploadError{
		Status:     response.StatusCode,
		Text:       logpush.TextOf(body),
		Permanent:  permanent(response.StatusCode),
		RetryAfter: logpush.RetryAfter(response.Header, time.Now()),
	}
}

func setDefault(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

func set(h http.Header, name, value string) {
	if value != "" {
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
