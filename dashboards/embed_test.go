package dashboards

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// built are files as the build leaves them.
var built = fstest.MapFS{
	"index.html":                {Data: []byte("<!doctype html><title>Tidegate</title>")},
	"favicon.svg":               {Data: []byte("<svg/>")},
	"assets/index-B8kQz1_x.js":  {Data: []byte(strings.Repeat("export const answer = 42;\n", 100))},
	"assets/index-C0ffee42.css": {Data: []byte("body{margin:0}")},
}

func get(t *testing.T, files fs.FS, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1/", nil)
	request.URL.Path = path
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	handler(files).ServeHTTP(recorder, request)
	return recorder
}

func TestEveryAddressOfAPageIsThePage(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 2)
	for _, path := range []string{"/", "/index.html", "/login", "/accounts", "/system", "/login/", "/accounts/", "/system/", "/" + id, "/" + id + "/", "/" + id + "/workers", "/" + id + "/workers/shop/versions/a.b"} {
		response := get(t, built, http.MethodGet, path)
		if response.Code != http.StatusOK || response.Header().Get("Content-Type") != "text/html; charset=utf-8" || response.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("GET %s: got %d, %v", path, response.Code, response.Header())
		}
	}
}

func TestFilesWithHashedNamesAreKept(t *testing.T) {
	f := func(path, contentType, cacheControl string) {
		t.Helper()
		header := get(t, built, http.MethodGet, path).Header()
		if header.Get("Content-Type") != contentType || header.Get("Cache-Control") != cacheControl {
			t.Errorf("GET %s: got %v", path, header)
		}
	}
	f("/assets/index-B8kQz1_x.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable")
	f("/assets/index-C0ffee42.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable")
	f("/favicon.svg", "image/svg+xml", "no-cache")
}

func TestWhatIsNotThereIsRefused(t *testing.T) {
	f := func(method, path string, want int) {
		t.Helper()
		response := get(t, built, method, path)
		if response.Code != want {
			t.Errorf("%s %s: got %d, want %d", method, path, response.Code, want)
		}
		if response.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s %s: no policy", method, path)
		}
	}
	id := strings.Repeat("a", 32)
	for _, path := range []string{"/nothing", "/nothing/", "/loginx", "/login//", "/accounts/1", "/" + id[1:] + "/workers", "/" + strings.ToUpper(id), "/../embed.go", "/dist/index.html",
		"/assets/", "/assets/index-old.js", "/assets/../index.html", "//login", "/session", "/x/" + id} {
		f(http.MethodGet, path, http.StatusNotFound)
	}
	f(http.MethodPost, "/", http.StatusMethodNotAllowed)
	f(http.MethodPut, "/login", http.StatusMethodNotAllowed)
}

func TestEveryAnswerHasThePolicy(t *testing.T) {
	header := get(t, built, http.MethodGet, "/login").Header()
	policy := header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy+";", directive+";") {
			t.Errorf("the policy %q has no %s", policy, directive)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "data:") || strings.Contains(policy, "http") {
		t.Errorf("the policy %q lets in what it should not", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	for _, accepted := range []string{"", "gzip"} {
		tag := get(t, built, http.MethodGet, "/assets/index-B8kQz1_x.js", "Accept-Encoding", accepted).Header().Get("ETag")
		if len(tag) < 34 {
			t.Fatalf("the tag is %q", tag)
		}
		if got := get(t, built, http.MethodGet, "/assets/index-B8kQz1_x.js", "If-None-Match", tag, "Accept-Encoding", accepted).Code; got != http.StatusNotModified {
			t.Errorf("got %d with the file's own tag, want 304", got)
		}
	}
}

func TestLargeTextsAreCompressedForWhoTakesThat(t *testing.T) {
	const path = "/assets/index-B8kQz1_x.js"
	plain := get(t, built, http.MethodGet, path).Body.Bytes()
	f := func(path, accepted string, want bool) {
		t.Helper()
		response := get(t, built, http.MethodGet, path, "Accept-Encoding", accepted)
		if got := response.Header().Get("Content-Encoding") == "gzip"; got != want {
			t.Fatalf("GET %s with %q: compressed is %v", path, accepted, got)
		}
		if !want {
			return
		}
		reader, err := gzip.NewReader(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reader)
		if err != nil || !bytes.Equal(body, plain) || response.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("GET %s: %d bytes, %v, error %v", path, len(body), response.Header(), err)
		}
	}
	f(path, "gzip, deflate, br, zstd", true)
	f(path, "br, GZIP;q=0.5", true)
	f(path, "", false)
	f(path, "br", false)
	f(path, "gzip;q=0", false)
	f(path, "gzip; q=0.0", false)
	f("/assets/index-C0ffee42.css", "gzip", false) // too short to gain
}

// The policy would block them, so that a page with one is broken: addresses of
// other servers, and code or style inside the page. What the page refers to must exist.
func TestThePageNeedsNothingFromElsewhere(t *testing.T) {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		t.Fatal(err)
	}
	response := get(t, files, http.MethodGet, "/")
	body := response.Body.String()
	if response.Code != http.StatusOK {
		t.Fatalf("the page answers %d", response.Code)
	}
	if found := regexp.MustCompile(`<script>|<style|\sstyle="|\son[a-z]+="|@import`).FindString(body); found != "" {
		t.Errorf("the page contains %s, which the policy blocks", found)
	}
	server := map[string]bool{"/openapi.yaml": true, "/metrics": true, "/healthz": true, "/readyz": true}
	links := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(body, -1)
	if len(links) == 0 {
		t.Error("the page refers to nothing: the pattern no longer fits")
	}
	for _, link := range links {
		if code := get(t, files, http.MethodGet, link[1]).Code; code != http.StatusOK && !server[link[1]] {
			t.Errorf("the page refers to %q, which answers %d", link[1], code)
		}
	}
}
