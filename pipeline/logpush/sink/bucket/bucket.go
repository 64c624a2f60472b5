// Package bucket is the destination for object stores: Amazon S3 and S3-compatible
// stores with keys of the job's owner, Cloudflare R2, Google Cloud Storage, and Azure
// Blob Storage.
//
//	s3://<bucket>/<path>?region=...&access-key-id=...&secret-access-key=...
//	    [&endpoint=<host>][&sse=AES256|aws:kms][&sse-kms-key-id=...][&acl=bucket-owner-full-control]
//	r2://<bucket>/<path>?account-id=...&access-key-id=...&secret-access-key=...
//	gs://<bucket>/<path>?credentials=base64:<JSON of a service account's key>[&endpoint=<host>]
//	azure://<account>.blob.core.windows.net/<container>/<path>?<SAS>
//	azure://<container>/<path>?<SAS>&endpoint=<host>
//
// The path may hold placeholders. An object is there whole or not at all, under a key
// that a repeat replaces, with Content-Encoding: gzip.
package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gocloud.dev/blob"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// Options of every bucket destination.
type Options struct {
	Egress egress.Policy
	// GoogleAmbient lets gs:// destinations without credentials write as this
	// process does (Application Default Credentials): to every bucket of the
	// operator's that whoever makes the job proves to be able to read.
	GoogleAmbient bool
}

// New returns the sink of a URL with one of the schemes above.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	if err := logpush.CheckPlaceholders(u); err != nil {
		return nil, err
	}
	if u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("the bucket is missing: write %s://<bucket>/<path>", u.Scheme)
	}
	switch u.Scheme {
	case "s3", "r2":
		return newS3(u, options)
	case "gs":
		return newGoogle(u, options)
	case "azure":
		return newAzure(u, options)
	}
	return nil, fmt.Errorf("the scheme %q is not a bucket's", u.Scheme)
}

// sink is a bucket that gocloud.dev has a driver for.
type sink struct {
	bucket   *blob.Bucket
	folder   string                                                       // with placeholders
	options  func(body []byte) (o *blob.WriterOptions, taken func() bool) // taken says what the answer of a success does
	classify func(error) *logpush.UploadError
	escapes  func(r rune) bool // what the driver writes in another way, see keyAt
	// ambient says that it writes with credentials of this process.
	ambient bool
}

// Traits implements logpush.Traiter.
func (s *sink) Traits() logpush.Traits {
	return logpush.Traits{Overwrites: true, Challenge: s.ambient}
}

// NameOf implements logpush.Namer.
func (s *sink) NameOf(o *logpush.Object) string { return keyAt(o.Key(s.folder), s.escapes) }

// keyAt returns the key under which a driver of gocloud.dev writes: __0x7f__ stands for
// a character that the store does not take, and for a slash behind two dots.
func keyAt(key string, escapes func(rune) bool) string {
	var b strings.Builder
	for i, r := range key {
		if escapes(r) || r == '/' && strings.HasSuffix(key[:i], "..") {
			fmt.Fprintf(&b, "__%#x__", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Put implements logpush.Sink.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	options, taken := s.options(o.Body)
	if options.ContentType = o.ContentType; !o.Plain {
		options.ContentEncoding = "gzip"
	}
	err := s.bucket.Upload(ctx, o.Key(s.folder), bytes.NewReader(o.Body), options)
	switch {
	case err == nil && taken():
		return nil
	case err == nil:
		return foreign()
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return s.classify(err)
}

// answered makes the error of an answer. The code is the store's own word for what
// went wrong.
func answered(status int, code, message string, header http.Header) *logpush.UploadError {
	if status/100 == 2 { // a success, but of something else
		return foreign()
	}
	return &logpush.UploadError{
		Status:     status,
		Text:       logpush.TextOf([]byte(strings.Trim(code+": "+message, ": "))),
		Permanent:  permanent(status, code),
		RetryAfter: logpush.RetryAfter(header, time.Now()),
	}
}

// foreign is the error of a success without what every store says of an object that it took: a proxy's page, most likely.
func foreign() *logpush.UploadError {
	return &logpush.UploadError{Text: "the answer is not one of a store"}
}

// unanswered makes the error of an exchange without an answer. What the drivers put
// around the reason has addresses and signatures in it.
func unanswered(err error) *logpush.UploadError {
	if exchange, ok := errors.AsType[*url.Error](err); ok {
		return egress.Classify(exchange.Err)
	}
	return &logpush.UploadError{Text: "the upload failed before the destination answered"}
}

// permanent tells a refusal from trouble that may pass. Stores answer some of the
// latter with a 4xx.
func permanent(status int, code string) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	}
	switch code {
	case "RequestTimeout", "RequestTimeTooSkewed", "OperationAborted", // S3
		"rateLimitExceeded", "userRateLimitExceeded": // Google's JSON API
		return false
	}
	return status >= 300 && status < 500
}
