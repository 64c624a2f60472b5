// Package kinesis is the destination for Amazon Kinesis Data Streams: one record of
// the stream a batch, whose data is the gzip of the batch, as Logpush has it.
//
//	kinesis://<stream>?region=...&access-key-id=...&secret-access-key=...[&endpoint=<host>]
//
// The partition key is the batch's id, which spreads batches over the shards. A batch
// may come twice; its id tells.
package kinesis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/parameters"
)

// Options of every Kinesis destination.
type Options struct {
	Egress egress.Policy
}

// Limits of a record (PutRecord in the Kinesis API reference): 1 MiB of data and partition
// key unless the stream was set up for more. Events compress to less than a fifth, so that batches
// below maxBytes rarely come near it.
const (
	maxData  = 1 << 20
	maxBytes = 4_000_000
)

type sink struct {
	client *kinesis.Client
	stream string
}

// New returns the sink of a kinesis:// URL.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	for _, name := range []string{"sts-assume-role-arn", "sts-external-id"} {
		if query.Has(name) {
			return nil, fmt.Errorf("%s is not supported: there is no AWS account here that could assume the role; give access-key-id and secret-access-key", name)
		}
	}
	known := map[string]bool{"region": true, "access-key-id": true, "secret-access-key": true, "endpoint": false}
	if err := parameters.Check(u.Scheme, query, known); err != nil {
		return nil, err
	}
	if u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, errors.New("write kinesis://<stream>, without a path")
	}
	endpoint, err := parameters.Endpoint(query, options.Egress)
	if err != nil {
		return nil, err
	}
	var base *string // nil is Amazon's own
	if endpoint != nil {
		if endpoint.Path != "" {
			return nil, errors.New("the parameter endpoint must be a host without a path")
		}
		base = aws.String(endpoint.String())
	}
	client := kinesis.New(kinesis.Options{
		Region: query.Get("region"), BaseEndpoint: base, HTTPClient: options.Egress.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(query.Get("access-key-id"), query.Get("secret-access-key"), ""),
		Retryer:     aws.NopRetryer{}, // the caller retries, and counts
	})
	return &sink{client: client, stream: u.Host}, nil
}

// Traits implements logpush.Traiter.
func (s *sink) Traits() logpush.Traits { return logpush.Traits{MaxBytes: maxBytes} }

// Put implements logpush.Sink.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	key := o.BatchID
	if key == "" {
		key = o.Name // a test upload
	}
	out, err := s.client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String(s.stream), PartitionKey: aws.String(key), Data: o.Body})
	switch {
	case err == nil && aws.ToString(out.SequenceNumber) != "":
		return nil
	case err == nil: // an empty answer, or another's JSON
		return foreign()
	case ctx.Err() != nil:
		return ctx.Err()
	}
	e := classify(err)
	if e.Status == http.StatusBadRequest && len(o.Body)+len(key) > maxData {
		e.Status, e.Permanent = http.StatusRequestEntityTooLarge, true // smaller batches will do
	}
	return e
}

func foreign() *logpush.UploadError {
	return &logpush.UploadError{Text: "the answer is not one of Kinesis"}
}

// classify tells what may pass. Kinesis answers 400 for nearly everything, and none of
// it is about what the data holds; so no status blames the batch.
func classify(err error) *logpush.UploadError {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.Response == nil || response.HTTPStatusCode() == 0 { // the client wraps a failed connection like an answer
		return egress.Classify(err)
	}
	status := response.HTTPStatusCode()
	if status < http.StatusMultipleChoices { // it says that the record was taken, or something else
		if e := egress.Classify(err); e.Status == logpush.StatusTimeout {
			return e
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return egress.Classify(err)
		}
		return foreign()
	}
	e := &logpush.UploadError{Status: status, RetryAfter: logpush.RetryAfter(response.Response.Header, time.Now())}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() == "UnknownError" { // of who stands before the service
		e.Permanent = status < http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound
		return e
	}
	e.Text = logpush.TextOf([]byte(strings.Trim(api.ErrorCode()+": "+api.ErrorMessage(), ": ")))
	switch api.ErrorCode() {
	case "ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException", "ThrottlingException":
		e.Status = http.StatusTooManyRequests
	case "ResourceNotFoundException":
		e.Status, e.Permanent = http.StatusNotFound, true
	case "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException":
		e.Status, e.Permanent = http.StatusForbidden, true
	}
	return e
}
