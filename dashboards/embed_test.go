package dashboards

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	Handler().ServeHTTP(recorder, request)
	return recorder
}

func TestEveryFileIsServedUnderThePolicy(t *testing.T) {
	f := func(path, contentType string) {
		t.Helper()
		response := get(t, http.MethodGet, path)
		if response.Code != http.StatusOK || response.Header().Get("Content-Type") != contentType {
			t.Errorf("GET %s: got %d %q, want 200 %q", path, response.Code, response.Header().Get("Content-Type"), contentType)
		}
		if policy := response.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("GET %s: got the policy %q", path, policy)
		}
	}
	f("/", "text/html; charset=utf-8")
	f("/index.html", "text/html; charset=utf-8")
	f("/tidegate.css", "text/css; charset=utf-8")
	f("/tidegate.svg", "image/svg+xml")
}

func TestWhatIsNotThereIsRefused(t *testing.T) {
	f := func(method, path string, want int) {
		t.Helper()
		if got := get(t, method, path).Code; got != want {
			t.Errorf("%s %s: got %d, want %d", method, path, got, want)
		}
	}
	f(http.MethodGet, "/nothing", http.StatusNotFound)
	f(http.MethodGet, "/../embed.go", http.StatusNotFound)
	f(http.MethodGet, "/dist/index.html", http.StatusNotFound)
	f(http.MethodPost, "/", http.StatusMethodNotAllowed)
}

func TestAnUnchangedFileIsNotSentAgain(t *testing.T) {
	tag := get(t, http.MethodGet, "/tidegate.css").Header().Get("ETag")
	if tag == "" {
		t.Fatal("the answer has no ETag")
	}
	if got := get(t, http.MethodGet, "/tidegate.css", "If-None-Match", tag).Code; got != http.StatusNotModified {
		t.Errorf("got %d with the file's own tag, want 304", got)
	}
}

// The policy would block them, so that a page with one is broken: addresses of
// other servers, and code or style inside the page. Local links must exist, or be
// the server's own.
func TestPagesNeedNothingFromElsewhere(t *testing.T) {
	server := []string{"/openapi.yaml", "/metrics", "/healthz", "/readyz"}
	reference := regexp.MustCompile(`(?:href|src)="([^"]*)"|url\(([^)]*)\)`)
	forbidden := regexp.MustCompile(`<script>|<style|\sstyle="|\son[a-z]+="|@import`)
	assets := load()
	links := 0
	for name, a := range assets {
		if strings.HasSuffix(name, ".svg") || strings.HasSuffix(name, ".js") {
			continue // images name their namespace; scripts are covered by the policy
		}
		if found := forbidden.Find(a.body); found != nil {
			t.Errorf("%s contains %s, which the policy blocks", name, found)
		}
		for _, match := range reference.FindAllStringSubmatch(string(a.body), -1) {
			links++
			target := match[1] + match[2]
			_, ours := assets[target]
			for _, path := range server {
				ours = ours || target == path
			}
			if !ours {
				t.Errorf("%s refers to %q, which this server does not have", name, target)
			}
		}
	}
	if links == 0 {
		t.Error("no page refers to anything: the pattern no longer fits")
	}
	if matches, err := fs.Glob(dist, "dist/*"); err != nil || len(matches) != len(assets) {
		t.Errorf("serving %d files of %d (%v)", len(assets), len(matches), err)
	}
}
