package bucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/parameters"
)

// azureParameters are those of a shared access signature, and endpoint. Others could
// make the upload another operation (comp, restype).
var azureParameters = map[string]bool{
	"sig": true, "sv": true,
	"ss": false, "srt": false, "sp": false, "se": false, "st": false, "spr": false, "sip": false, "ses": false, // account
	"sr": false, "si": false, "sdd": false, // service
	"skoid": false, "sktid": false, "skt": false, "ske": false, "sks": false, "skv": false, // user delegation
	"saoid": false, "suoid": false, "scid": false,
	"endpoint": false,
}

// containerName is Azure's rule for names of containers.
var containerName = regexp.MustCompile(`^(\$root|\$web|[a-z0-9](-?[a-z0-9]){2,62})$`)

// azureEscapes says of a character that the driver finds Azure not to take it in names.
func azureEscapes(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`"#%?\`, r) }

// newAzure takes the SAS URL of a container with azure for https, as Logpush documents
// it; or, as our addition, an endpoint (an emulator, another cloud) and the container
// as the host, as S3-compatible stores have it.
func newAzure(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	if err := parameters.Check(u.Scheme, query, azureParameters); err != nil {
		return nil, fmt.Errorf("%w (after the ? stands a shared access signature)", err)
	}
	if err := checkSignature(query); err != nil {
		return nil, err
	}
	endpoint, err := parameters.Endpoint(query, options.Egress)
	if err != nil {
		return nil, err
	}
	name, folder := u.Host, u.Path
	if endpoint == nil {
		if !strings.Contains(u.Host, ".") {
			return nil, errors.New("the storage account is missing: write azure://<account>.blob.core.windows.net/<container>/<path>?<SAS>, " +
				"the SAS URL of the container with azure for https")
		}
		endpoint = &url.URL{Scheme: "https", Host: u.Host}
		name, folder, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	}
	if !containerName.MatchString(name) {
		return nil, fmt.Errorf("%q cannot be the name of a container: write azure://<account>.blob.core.windows.net/<container>/<path>?<SAS>", name)
	}
	endpoint = endpoint.JoinPath(name)
	endpoint.RawQuery = signatureOf(u.RawQuery)
	client, err := container.NewClientWithNoCredential(endpoint.String(), &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport:       options.Egress.Client(),
		PerCallPolicies: []policy.Policy{tagged{}},
		Retry:           policy.RetryOptions{MaxRetries: -1}, // none: the caller retries, and counts
	}})
	if err != nil { // not the reason: it may hold the signature
		return nil, errors.New("the URL cannot be that of a container")
	}
	bucket, err := azureblob.OpenBucket(context.Background(), client, nil)
	if err != nil {
		return nil, fmt.Errorf("open the container: %w", err)
	}
	return &sink{bucket: bucket, folder: folder, options: azureUpload, classify: classifyAzure, escapes: azureEscapes}, nil
}

// checkSignature refuses a shared access signature that allows more than to write
// objects, in Logpush's words, or that will not do.
func checkSignature(query url.Values) error {
	if query.Get("sr") == "" { // of the whole account
		if query.Get("srt") != "o" {
			return errors.New("signedResourceTypes must be Object only (srt=o)")
		}
		if query.Get("ss") != "b" {
			return errors.New("signedServices must be Blob only (ss=b)")
		}
	} else if sr := query.Get("sr"); sr != "c" {
		return fmt.Errorf("signedResource is %q: a signature for a container (sr=c) is needed", sr)
	}
	if query.Get("si") != "" { // a policy stored there says the rest
		return nil
	}
	if !strings.Contains(query.Get("sp"), "w") {
		return errors.New("signedPermissions must allow Write (sp=w)")
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z", time.DateOnly} {
		if end, err := time.Parse(layout, query.Get("se")); err == nil {
			if end.Before(time.Now()) {
				return fmt.Errorf("the shared access signature expired at %s (se)", query.Get("se"))
			}
			return nil
		}
	}
	return errors.New("signedExpiry must be a time such as 2031-01-02T15:04:05Z (se)")
}

// signatureOf is the query without our own parameter, and otherwise as it was given.
func signatureOf(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); name != "endpoint" {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// azureUpload is one request, at the price of a copy of the body. In blocks, two
// deliveries of one object would throw each other's away (InvalidBlockList).
func azureUpload(body []byte) (*blob.WriterOptions, func() bool) {
	return &blob.WriterOptions{BufferSize: len(body) + 1, MaxConcurrency: 1}, func() bool { return true } // by tagged
}

// tagged refuses a success that does not say which ETag the blob has.
type tagged struct{}

func (tagged) Do(r *policy.Request) (*http.Response, error) {
	response, err := r.Next()
	if err == nil && response.StatusCode == http.StatusCreated && response.Header.Get("ETag") == "" {
		return response, runtime.NewResponseError(response)
	}
	return response, err
}

func classifyAzure(err error) *logpush.UploadError {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return unanswered(err)
	}
	code, header := e.ErrorCode, http.Header(nil)
	if code == "" {
		code = http.StatusText(e.StatusCode)
	}
	if e.RawResponse != nil {
		header = e.RawResponse.Header
	}
	return answered(e.StatusCode, code, "", header) // the message is about signatures
}
