package bucket

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/parameters"
)

var googleParameters = map[string]bool{"credentials": false, "endpoint": false}

// googleEscapes says of a character that the driver finds Google not to take it in names.
func googleEscapes(r rune) bool { return r == '\n' || r == '\r' }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newGoogle(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	if err := parameters.Check(u.Scheme, query, googleParameters); err != nil {
		return nil, err
	}
	if u.Port() != "" {
		return nil, errors.New("a bucket has no port: write gs://<bucket>/<path>")
	}
	endpoint, err := parameters.Endpoint(query, options.Egress)
	if err != nil {
		return nil, err
	}
	client := options.Egress.Client()
	login, err := googleLogin(query.Get("credentials"), endpoint != nil, options.GoogleAmbient)
	if err != nil {
		return nil, err
	}
	_, ambient := login.(*ambientLogin)
	if login != nil {
		client.Transport = &oauth2.Transport{Source: login, Base: client.Transport}
	}
	// Without this the library looks for credentials of this process, and sends them.
	clientOptions := []option.ClientOption{option.WithoutAuthentication(), option.WithHTTPClient(client)}
	if endpoint != nil {
		clientOptions = append(clientOptions, option.WithEndpoint(endpoint.String()+"/storage/v1/"))
	}
	service, err := storage.NewClient(context.Background(), clientOptions...)
	if err != nil {
		return nil, fmt.Errorf("make a client of Google Cloud Storage: %w", err)
	}
	service.SetRetry(storage.WithPolicy(storage.RetryNever)) // the caller retries, and counts
	bucket, err := gcsblob.OpenBucket(context.Background(), nil, u.Host, &gcsblob.Options{Client: service})
	if err != nil {
		return nil, fmt.Errorf("open the bucket: %w", err)
	}
	return &sink{bucket: bucket, folder: u.Path, options: googleUpload, classify: classifyGoogle, escapes: googleEscapes, ambient: ambient}, nil
}

// googleLogin returns nil where nobody has to log in: at an emulator.
func googleLogin(given string, elsewhere, ambient bool) (oauth2.TokenSource, error) {
	switch {
	case given != "":
		return serviceAccount(given)
	case elsewhere: // never this process's own credentials: a user named the place
		return nil, nil
	case ambient:
		return &ambientLogin{}, nil
	}
	return nil, errors.New("the parameter credentials is missing: credentials=base64:<JSON of a service account's key>. " +
		"Without it jobs write as this service does, after an ownership challenge, but only where its operator has set --logpush-google-ambient")
}

// serviceAccount makes tokens out of a service account's key without asking anybody:
// Google takes what the key itself has signed. Other kinds of credentials, which can
// name files, programs and addresses, are refused.
func serviceAccount(given string) (oauth2.TokenSource, error) {
	encoded, ok := strings.CutPrefix(given, "base64:")
	if !ok {
		return nil, errors.New("the parameter credentials must be base64:<JSON of a service account's key>")
	}
	// A + that was not written as %2B has become a space.
	encoded = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(strings.TrimRight(encoded, "="))
	key, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("the parameter credentials is not base64")
	}
	var kind struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(key, &kind) != nil || kind.Type != "service_account" {
		return nil, errors.New(`the parameter credentials must hold the JSON of a service account's key, with "type": "service_account"`)
	}
	source, err := google.JWTAccessTokenSourceWithScope(key, storage.ScopeReadWrite)
	if err != nil { // not the reason: it may hold parts of the key
		return nil, errors.New("the private key in the parameter credentials cannot be read")
	}
	return oauth2.ReuseTokenSource(nil, source), nil
}

// ambientLogin finds the credentials of this process at the first upload: a constructor
// connects to nothing, and finding them can mean to ask the machine's metadata server.
type ambientLogin struct {
	mu     sync.Mutex
	source oauth2.TokenSource // nil until found
}

func (a *ambientLogin) Token() (*oauth2.Token, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.source == nil {
		found, err := google.FindDefaultCredentials(context.Background(), storage.ScopeReadWrite)
		if err != nil {
			return nil, errAmbient
		}
		a.source = found.TokenSource
	}
	token, err := a.source.Token()
	if err != nil {
		return nil, errAmbient
	}
	return token, nil
}

// errAmbient does not say what happened to the operator's credentials: it is shown to users.
var errAmbient = errors.New("this service has no valid Google credentials of its own: ask its operator, or give the parameter credentials")

// googleUpload is one request, sent as it is read; the store checks what arrived.
func googleUpload(body []byte) (*blob.WriterOptions, func() bool) {
	var w *storage.Writer
	options := &blob.WriterOptions{
		BufferSize: -1, // otherwise in chunks, which the library repeats by itself
		BeforeWrite: func(as func(any) bool) error {
			if !as(&w) {
				return errors.New("the driver gave no writer")
			}
			w.CRC32C, w.SendCRC32C = crc32.Checksum(body, castagnoli), true
			return nil
		},
	}
	return options, func() bool { return w != nil && w.Attrs() != nil && w.Attrs().Name != "" }
}

func classifyGoogle(err error) *logpush.UploadError {
	if errors.Is(err, errAmbient) {
		return &logpush.UploadError{Status: http.StatusUnauthorized, Text: errAmbient.Error()}
	}
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		if _, bad := errors.AsType[*json.SyntaxError](err); bad || err == io.EOF { //nolint:errorlint // a connection's is wrapped
			return foreign()
		}
		return unanswered(err)
	}
	code, message := "", e.Message
	if len(e.Errors) > 0 {
		code = e.Errors[0].Reason
	}
	if message == "" {
		message = e.Body
	}
	return answered(e.Code, code, message, e.Header)
}
