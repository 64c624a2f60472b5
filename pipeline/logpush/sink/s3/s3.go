// Package s3 is the destination for buckets: Amazon S3 and S3-compatible stores
// with keys of the job's owner, and Cloudflare R2.
//
//	s3://<bucket>/<path>?region=...&access-key-id=...&secret-access-key=...[&endpoint=<host>][&sse=AES256]
//	r2://<bucket>/<path>?account-id=...&access-key-id=...&secret-access-key=...
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// Options of every bucket destination.
type Options struct {
	Egress egress.Policy
}

type sink struct {
	client *s3.Client
	bucket string
	folder string // with {DATE}
	sse    types.ServerSideEncryption
}

// parameters of each scheme; those marked true are required.
var parameters = map[string]map[string]bool{
	"s3": {"region": true, "access-key-id": true, "secret-access-key": true, "endpoint": false, "sse": false},
	"r2": {"account-id": true, "access-key-id": true, "secret-access-key": true},
}

// New returns the sink of an s3:// or r2:// URL.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	if err := checkParameters(u.Scheme, query); err != nil {
		return nil, err
	}
	bucket := u.Host
	if bucket == "" || u.User != nil || u.Port() != "" {
		return nil, fmt.Errorf("the bucket is missing: write %s://<bucket>/<path>", u.Scheme)
	}
	sse := query.Get("sse")
	if sse != "" && sse != string(types.ServerSideEncryptionAes256) {
		return nil, fmt.Errorf("the parameter sse is %q: only AES256 is possible", sse)
	}
	endpoint, err := endpointOf(u.Scheme, query, options.Egress)
	if err != nil {
		return nil, err
	}
	region := query.Get("region")
	if u.Scheme == "r2" {
		region = "auto"
	}
	client := s3.New(s3.Options{
		Region:       region,
		BaseEndpoint: endpoint,
		UsePathStyle: endpoint != nil, // stores of one's own rarely have a name for each bucket
		Credentials:  credentials.NewStaticCredentialsProvider(query.Get("access-key-id"), query.Get("secret-access-key"), ""),
		HTTPClient:   options.Egress.Client(),
		Retryer:      aws.NopRetryer{}, // the caller retries, and counts
		// The newer trailing checksums are unknown to many compatible stores; the
		// signature covers the body in any case.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	})
	return &sink{client: client, bucket: bucket, folder: u.Path, sse: types.ServerSideEncryption(sse)}, nil
}

func checkParameters(scheme string, query url.Values) error {
	known, ok := parameters[scheme]
	if !ok {
		return fmt.Errorf("the scheme %q is not a bucket's", scheme)
	}
	var missing []string
	for name, required := range known {
		if required && query.Get(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("required parameters are missing: %s", strings.Join(missing, ", "))
	}
	for name, values := range query {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("the parameter %q is not known for %s", name, scheme)
		}
		if len(values) > 1 {
			return fmt.Errorf("the parameter %q is given twice", name)
		}
	}
	return nil
}

// endpointOf returns nil for Amazon's own. An endpoint is a host; a scheme before
// it is our addition, for a store on the operator's network without TLS.
func endpointOf(scheme string, query url.Values, policy egress.Policy) (*string, error) {
	if scheme == "r2" {
		account := query.Get("account-id")
		if strings.Trim(strings.ToLower(account), "0123456789abcdef") != "" {
			return nil, errors.New("the parameter account-id must be a hexadecimal number")
		}
		return aws.String("https://" + account + ".r2.cloudflarestorage.com"), nil
	}
	endpoint := query.Get("endpoint")
	if endpoint == "" {
		return nil, nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("the parameter endpoint must be a host, with a port if need be")
	}
	if err := policy.CheckScheme(u.Scheme); err != nil {
		return nil, fmt.Errorf("the parameter endpoint: %w", err)
	}
	return aws.String(u.Scheme + "://" + u.Host), nil
}

// Put implements logpush.Sink. It is one PutObject, not a multipart upload: an
// object is there whole or not at all, and a broken upload leaves no parts that
// cost money. S3 takes up to 5 GB this way, far more than a batch may have.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:               aws.String(s.bucket),
		Key:                  aws.String(o.Key(s.folder)),
		Body:                 bytes.NewReader(o.Body),
		ContentLength:        aws.Int64(int64(len(o.Body))),
		ContentType:          aws.String(o.ContentType),
		ContentEncoding:      aws.String("gzip"),
		ServerSideEncryption: s.sse,
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return classify(err)
}

func classify(err error) *logpush.UploadError {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.Response == nil || response.HTTPStatusCode() == 0 { // the client wraps a failed connection like an answer
		return egress.Classify(err)
	}
	e := &logpush.UploadError{Status: response.HTTPStatusCode()}
	code := ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
		e.Text = logpush.TextOf([]byte(strings.Trim(code+": "+api.ErrorMessage(), ": ")))
	}
	e.Permanent = permanent(e.Status, code)
	if seconds, err := strconv.Atoi(response.Response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, 86_400)) * time.Second
	}
	return e
}

// permanent tells a refusal from trouble that may pass. S3 answers some of the
// latter with a 4xx.
func permanent(status int, code string) bool {
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status == http.StatusConflict:
		return false
	case code == "RequestTimeout", code == "RequestTimeTooSkewed", code == "OperationAborted":
		return false
	}
	return status >= 300 && status < 500
}
