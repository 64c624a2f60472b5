package bucket

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// Servers to run the suite on instead of those in this process.
const (
	externalGoogle = "TIDEGATE_TEST_GCS"   // http://<host>:<port>
	externalAzure  = "TIDEGATE_TEST_AZURE" // http://<account>:<key>@<host>:<port>
)

// stored is what a store has of one object.
type stored struct {
	body                  []byte
	contentType, encoding string
}

// store is one of an empty bucket, seen from behind.
type store struct {
	behind http.Handler
	conf   func(endpoint, folder string) string
	get    func(key string) (stored, bool)
	count  func() int
}

var stores = map[string]func(t *testing.T) store{"gs": googleStore, "azure": azureStore}

// front is a store that can be made to fail or to hang.
type front struct {
	store
	url     string
	broken  atomic.Bool
	stalled atomic.Pointer[chan struct{}] // closed once an upload hangs
}

func newFront(t *testing.T, s store) *front {
	t.Helper()
	f, done := &front{store: s}, make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if arrived := f.stalled.Load(); arrived != nil {
			_, _ = io.CopyN(io.Discard, r.Body, 1)
			close(*arrived)
			<-done // a server that does not read does not see the client go
			return
		}
		if f.broken.Load() {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.behind.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(done) })
	f.url = server.URL
	return f
}

func (f *front) sink(t *testing.T, folder string) logpush.Sink {
	t.Helper()
	return open(t, f.conf(f.url, folder), local)
}

func open(t *testing.T, conf string, options Options) logpush.Sink {
	t.Helper()
	return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, options) }, conf)
}

func TestStores(t *testing.T) {
	for scheme, newStore := range stores {
		t.Run(scheme, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Subject {
				f := newFront(t, newStore(t))
				name := func(o logpush.Object) string { return "shop/20261009/" + o.Name }
				return sinktest.Subject{
					Sink: f.sink(t, "shop/{DATE}"),
					Name: name,
					Stored: func(o logpush.Object) ([]byte, bool) {
						got, ok := f.get(name(o))
						return got.body, ok
					},
					Count: f.count,
					Break: func() { f.broken.Store(true) },
					Stall: func() <-chan struct{} {
						arrived := make(chan struct{})
						f.stalled.Store(&arrived)
						return arrived
					},
				}
			})
		})
	}
}

func TestObjectsOfAllStoresAreLabelled(t *testing.T) {
	for scheme, newStore := range stores {
		f := newFront(t, newStore(t))
		if err := f.sink(t, "").Put(t.Context(), sinktest.Object("a.log.gz", "a")); err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		got, ok := f.get("a.log.gz")
		if !ok || got.encoding != "gzip" || got.contentType != "application/x-ndjson" {
			t.Errorf("%s has the encoding %q and the type %q", scheme, got.encoding, got.contentType)
		}
	}
}

// The drivers write some characters in another way; the name of an object says how. It did
// not for control characters, and for folders that end with two dots.
func TestNamesSayWhatDriversWrite(t *testing.T) {
	for scheme, newStore := range stores {
		f := newFront(t, newStore(t))
		s := f.sink(t, url.PathEscape("50% \"off\" #1? \\o\x01\t\r\n\x7f\u0085é../../...")+"/{SCRIPT}")
		o := sinktest.Object("a.log.gz", "a")
		o.Script = "#1 \"shop\"?\x7f.."
		if err := s.Put(t.Context(), o); err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		name := s.(logpush.Namer).NameOf(&o)
		if _, ok := f.get(name); !ok {
			t.Errorf("%s: nothing is at %s", scheme, name)
		}
	}
}

// memory is a store in this process.
type memory struct {
	mu      sync.Mutex
	objects map[string]stored
	blocks  map[string][]byte
}

func newMemory() *memory {
	return &memory{objects: map[string]stored{}, blocks: map[string][]byte{}}
}

func (m *memory) get(key string) (stored, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	return o, ok
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.objects)
}

// googleKey is a service account's, new for each run.
var googleKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "logs@project.iam.gserviceaccount.com", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "http://127.0.0.1:1/nobody-asks-for-a-token",
	})
	if err != nil {
		panic(err)
	}
	return "base64:" + base64.StdEncoding.EncodeToString(text)
})

func googleConf(bucket string) func(endpoint, folder string) string {
	return func(endpoint, folder string) string {
		return fmt.Sprintf("gs://%s/%s?credentials=%s&endpoint=%s", bucket, folder, url.QueryEscape(googleKey()), url.QueryEscape(endpoint))
	}
}

func googleStore(t *testing.T) store {
	if external := os.Getenv(externalGoogle); external != "" {
		return realGoogle(t, external)
	}
	m := newMemory()
	return store{behind: http.HandlerFunc(m.serveGoogle), conf: googleConf("b"), get: m.get, count: m.count}
}

// serveGoogle takes uploads of one request to the bucket b, from who has signed for it.
func (m *memory) serveGoogle(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, reason string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%d,"message":%q,"errors":[{"reason":%q}]}}`, status, reason, reason)
	}
	parts := strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 {
		refuse(401, "authError")
		return
	}
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if !strings.Contains(string(claims), "devstorage.read_write") || !strings.Contains(string(claims), "logs@project") {
		refuse(403, "forbidden")
		return
	}
	if r.URL.Path != "/upload/storage/v1/b/b/o" || r.URL.Query().Get("uploadType") != "multipart" {
		refuse(404, "notFound")
		return
	}
	_, parameters, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	form := multipart.NewReader(r.Body, parameters["boundary"])
	var about struct{ Name, ContentType, ContentEncoding, CRC32C string }
	part, err := form.NextPart()
	if err == nil {
		err = json.NewDecoder(part).Decode(&about)
	}
	var body []byte
	if err == nil {
		if part, err = form.NextPart(); err == nil {
			body, err = io.ReadAll(part)
		}
	}
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))
	if err != nil || about.CRC32C != base64.StdEncoding.EncodeToString(sum) {
		refuse(400, "invalid")
		return
	}
	m.mu.Lock()
	m.objects[about.Name] = stored{body, about.ContentType, about.ContentEncoding}
	m.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	answer := map[string]string{"name": about.Name, "bucket": "b", "size": strconv.Itoa(len(body)), "crc32c": about.CRC32C}
	_ = json.NewEncoder(w).Encode(answer) // nobody listens any more
}

func realGoogle(t *testing.T, external string) store {
	t.Helper()
	bucket := fmt.Sprintf("tidegate-%d", time.Now().UnixNano())
	base, err := url.Parse(external)
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path, body string, into any) (status int) {
		q, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, external+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Accept-Encoding", "gzip") // the object as it is
		answer, err := http.DefaultTransport.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		switch text, err := io.ReadAll(answer.Body); into := into.(type) {
		case *[]byte:
			*into = text
		default:
			if err != nil || json.Unmarshal(text, into) != nil {
				t.Fatalf("%s %s: %d %s", method, path, answer.StatusCode, text)
			}
		}
		return answer.StatusCode
	}
	var ignored struct{}
	if status := call("POST", "/storage/v1/b?project=p", fmt.Sprintf(`{"name":%q}`, bucket), &ignored); status != http.StatusOK {
		t.Fatalf("make a bucket: %d", status)
	}
	objects := "/storage/v1/b/" + bucket + "/o"
	return store{
		behind: forward(base.Host), conf: googleConf(bucket),
		get: func(key string) (stored, bool) {
			var about struct{ ContentType, ContentEncoding string }
			var body []byte
			if call("GET", objects+"/"+url.PathEscape(key)+"?alt=media", "", &body) != http.StatusOK {
				return stored{}, false
			}
			call("GET", objects+"/"+url.PathEscape(key), "", &about)
			return stored{body, about.ContentType, about.ContentEncoding}, true
		},
		count: func() int {
			var list struct{ Items []struct{} }
			call("GET", objects, "", &list)
			return len(list.Items)
		},
	}
}

// signature is a shared access signature that nobody checks.
const signature = "sv=2024-11-04&ss=b&srt=o&sp=w&se=2099-01-01T00:00:00Z&sig=c2lnbmF0dXJl"

func azureConf(container, account, signature string) func(endpoint, folder string) string {
	return func(endpoint, folder string) string {
		return fmt.Sprintf("azure://%s/%s?%s&endpoint=%s", container, folder, signature, url.QueryEscape(endpoint+"/"+account))
	}
}

func azureStore(t *testing.T) store {
	if external := os.Getenv(externalAzure); external != "" {
		return realAzure(t, external)
	}
	m := newMemory()
	return store{behind: http.HandlerFunc(m.serveAzure), conf: azureConf("logs", "account", signature), get: m.get, count: m.count}
}

// serveAzure takes whole blobs, blocks, and lists of blocks for the container logs.
func (m *memory) serveAzure(w http.ResponseWriter, r *http.Request) {
	key, ok := strings.CutPrefix(r.URL.Path, "/account/logs/")
	query := r.URL.Query()
	body, err := io.ReadAll(r.Body)
	switch {
	case query.Get("sig") != "c2lnbmF0dXJl" || query.Has("endpoint"):
		w.Header().Set("X-Ms-Error-Code", "AuthenticationFailed")
		w.WriteHeader(http.StatusForbidden)
		return
	case !ok || r.Method != http.MethodPut:
		w.Header().Set("X-Ms-Error-Code", "ContainerNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	case err != nil:
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if query.Get("comp") == "block" {
		m.blocks[key+"\n"+query.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
		return
	}
	if query.Get("comp") == "blocklist" {
		var whole []byte
		for _, at := range strings.Split(string(body), "<Latest>")[1:] {
			id, _, _ := strings.Cut(at, "<")
			whole = append(whole, m.blocks[key+"\n"+id]...)
		}
		body = whole
	}
	m.objects[key] = stored{body, r.Header.Get("X-Ms-Blob-Content-Type"), r.Header.Get("X-Ms-Blob-Content-Encoding")}
	w.Header().Set("ETag", `"0x8D4BCC2E4835CD0"`)
	w.WriteHeader(http.StatusCreated)
}

func realAzure(t *testing.T, external string) store {
	t.Helper()
	u, err := url.Parse(external)
	if err != nil || u.User == nil {
		t.Fatalf("%s must be http://<account>:<key>@<host>:<port>", externalAzure)
	}
	account := u.User.Username()
	key, _ := u.User.Password()
	login, err := azblob.NewSharedKeyCredential(account, key)
	if err != nil {
		t.Fatal(err)
	}
	asStored := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	client, err := azblob.NewClientWithSharedKeyCredential("http://"+u.Host+"/"+account, login,
		&azblob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: asStored}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	name := fmt.Sprintf("tidegate-%d", time.Now().UnixNano())
	if _, err := client.CreateContainer(ctx, name, nil); err != nil {
		t.Fatal(err)
	}
	signed, err := client.ServiceClient().GetSASURL(sas.AccountResourceTypes{Object: true}, sas.AccountPermissions{Write: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, signature, _ := strings.Cut(signed, "?")
	return store{
		behind: forward(u.Host), conf: azureConf(name, account, signature),
		get: func(key string) (stored, bool) {
			answer, err := client.DownloadStream(ctx, name, key, nil)
			if err != nil {
				return stored{}, false
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			return stored{body, *answer.ContentType, *answer.ContentEncoding}, err == nil
		},
		count: func() int {
			page, err := client.NewListBlobsFlatPager(name, &container.ListBlobsFlatOptions{}).NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return len(page.Segment.BlobItems)
		},
	}
}

// copyOf is a map with one value changed; nothing takes a key away.
func copyOf(from url.Values, name, value string) url.Values {
	to := maps.Clone(from)
	if to.Del(name); value != "" {
		to.Set(name, value)
	}
	return to
}
