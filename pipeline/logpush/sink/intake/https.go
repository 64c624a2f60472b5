package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tidegate/internal/signature"
	"tidegate/pipeline/logpush"
)

// Parameters of an HTTP destination that are not sent.
const (
	paramSecret      = "hmac-secret"
	paramCompression = "compression" // gzip, zstd or none
)

// httpsSink posts the gzip file of an object, or the same content otherwise compressed.
type httpsSink struct {
	*endpoint
	secret      string
	compression string
}

func openHTTPS(e *endpoint, p params, _ Options) (logpush.Sink, error) {
	s := &httpsSink{endpoint: e, secret: p[paramSecret], compression: p[paramCompression]}
	if _, given := p[paramSecret]; given && len(s.secret) < signature.SecretMin {
		return nil, fmt.Errorf("%s must have %d characters at least", paramSecret, signature.SecretMin)
	}
	switch s.compression {
	case "", "gzip", "zstd", "none":
		return s, nil
	}
	return nil, errors.New(paramCompression + " must be gzip, zstd or none")
}

// Put implements logpush.Sink.
func (s *httpsSink) Put(ctx context.Context, o logpush.Object) error {
	p, err := s.payload(&o)
	if err != nil {
		return &logpush.UploadError{Text: "the batch cannot be compressed again: " + err.Error(), Permanent: true}
	}
	_, err = s.post(ctx, &o, p)
	return err
}

func (s *httpsSink) payload(o *logpush.Object) (payload, error) {
	p := inGzip(o.ContentType, o.Body)
	unzip := func() (io.ReadCloser, error) { return gzip.NewReader(bytes.NewReader(o.Body)) }
	switch s.compression {
	case "zstd":
		body, err := recompress(unzip)
		if err != nil {
			return payload{}, err
		}
		p = inGzip(o.ContentType, body)
		p.encoding = "zstd"
	case "none":
		// Plain text is many times as large, so it is never held in memory.
		p.encoding, p.open = "", unzip
		length, err := s.measure(p.open)
		if err != nil {
			return payload{}, err
		}
		p.length = length
	}
	if s.secret == "" {
		return p, nil
	}
	body, err := p.open()
	if err != nil {
		return payload{}, err
	}
	defer body.Close()
	p.signature, err = signature.Sign(s.secret, time.Now(), body)
	return p, err
}

func (*httpsSink) measure(open func() (io.ReadCloser, error)) (int64, error) {
	body, err := open()
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return io.Copy(io.Discard, body)
}

func recompress(unzip func() (io.ReadCloser, error)) ([]byte, error) {
	plain, err := unzip()
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var body bytes.Buffer
	zip, err := zstd.NewWriter(&body, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(zip, plain); err != nil {
		return nil, errors.Join(err, zip.Close())
	}
	err = zip.Close()
	return body.Bytes(), err
}
