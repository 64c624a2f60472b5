package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/parameters"
)

// s3Sink speaks to S3 by the SDK itself. The driver of gocloud.dev uploads with the
// SDK's transfer manager: above 16 MB in parts, which stay behind and cost money when
// the process is killed, and without a checksum where the store knows only the old
// way of signing.
type s3Sink struct {
	client *s3.Client
	bucket string
	folder string // with placeholders
	sse    types.ServerSideEncryption
	kmsKey *string
	acl    types.ObjectCannedACL
}

// Parameters; those marked true are required.
var (
	s3Parameters = map[string]bool{
		"region": true, "access-key-id": true, "secret-access-key": true,
		"endpoint": false, "sse": false, "sse-kms-key-id": false, "acl": false,
	}
	r2Parameters = map[string]bool{"account-id": true, "access-key-id": true, "secret-access-key": true}
)

func newS3(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	known := s3Parameters
	if u.Scheme == "r2" {
		known = r2Parameters
	}
	if err := parameters.Check(u.Scheme, query, known); err != nil {
		return nil, err
	}
	if u.Port() != "" {
		return nil, fmt.Errorf("a bucket has no port: write %s://<bucket>/<path>", u.Scheme)
	}
	s := &s3Sink{
		bucket: u.Host, folder: u.Path,
		sse: types.ServerSideEncryption(query.Get("sse")),
		acl: types.ObjectCannedACL(query.Get("acl")),
	}
	if key := query.Get("sse-kms-key-id"); key != "" {
		s.kmsKey = &key
	}
	switch {
	case s.sse != "" && s.sse != types.ServerSideEncryptionAes256 && s.sse != types.ServerSideEncryptionAwsKms:
		return nil, fmt.Errorf("the parameter sse is %q: AES256 and aws:kms are possible", s.sse)
	case s.kmsKey != nil && s.sse != types.ServerSideEncryptionAwsKms:
		return nil, errors.New("the parameter sse-kms-key-id needs sse=aws:kms")
	case s.acl != "" && s.acl != types.ObjectCannedACLBucketOwnerFullControl:
		return nil, fmt.Errorf("the parameter acl is %q: only bucket-owner-full-control is possible", s.acl)
	}
	endpoint, err := s3Endpoint(u.Scheme, query, options.Egress)
	if err != nil {
		return nil, err
	}
	region := query.Get("region")
	if u.Scheme == "r2" {
		region = "auto"
	}
	s.client = s3.New(s3.Options{
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
	return s, nil
}

// s3Endpoint returns nil for Amazon's own.
func s3Endpoint(scheme string, query url.Values, policy egress.Policy) (*string, error) {
	if scheme == "r2" {
		account := query.Get("account-id")
		if strings.Trim(strings.ToLower(account), "0123456789abcdef") != "" {
			return nil, errors.New("the parameter account-id must be a hexadecimal number")
		}
		return aws.String("https://" + account + ".r2.cloudflarestorage.com"), nil
	}
	endpoint, err := parameters.Endpoint(query, policy)
	if endpoint == nil || err != nil {
		return nil, err
	}
	if endpoint.Path != "" {
		return nil, errors.New("the parameter endpoint must be a host without a path")
	}
	return aws.String(endpoint.String()), nil
}

// Traits implements logpush.Traiter.
func (*s3Sink) Traits() logpush.Traits { return logpush.Traits{Overwrites: true} }

// NameOf implements logpush.Namer.
func (s *s3Sink) NameOf(o *logpush.Object) string { return o.Key(s.folder) }

// Put implements logpush.Sink. It is one PutObject: an object is there whole or not at
// all. S3 takes up to 5 GB this way, far more than a batch may have.
func (s *s3Sink) Put(ctx context.Context, o logpush.Object) error {
	out, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:               aws.String(s.bucket),
		Key:                  aws.String(s.NameOf(&o)),
		Body:                 bytes.NewReader(o.Body),
		ContentLength:        aws.Int64(int64(len(o.Body))),
		ContentType:          aws.String(o.ContentType),
		ContentEncoding:      aws.String("gzip"),
		ServerSideEncryption: s.sse,
		SSEKMSKeyId:          s.kmsKey,
		ACL:                  s.acl,
	})
	switch {
	case err == nil && ofS3(out):
		return nil
	case err == nil:
		return foreign()
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return classifyS3(err)
}

// ofS3 tells a store's answer from a proxy's. Some stores, such as earlier Apache Ozone, name the request,
// but not the object's ETag.
func ofS3(out *s3.PutObjectOutput) bool {
	request, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	return request != "" || aws.ToString(out.ETag) != ""
}

func classifyS3(err error) *logpush.UploadError {
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.Response == nil || response.HTTPStatusCode() == 0 { // the client wraps a failed connection like an answer
		return egress.Classify(err)
	}
	code, message := "", ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	return answered(response.HTTPStatusCode(), code, message, response.Response.Header)
}
