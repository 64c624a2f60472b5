package listen

import (
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"tidegate/internal/gateway/lean"
)

func TestChallengesUnderWayAreAnsweredAndNoOthers(t *testing.T) {
	dir := t.TempDir()
	a := newTestACME(t, dir, &authority{lifetime: time.Hour}, time.Now)
	other := newTestACME(t, dir, &authority{lifetime: time.Hour}, time.Now) // the authority may reach any router
	const token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
	byHTTP := acme.Challenge{Type: acme.ChallengeTypeHTTP01, Token: token, KeyAuthorization: token + ".thumb", Identifier: acme.Identifier{Type: "dns", Value: "shop.example.com"}}
	byTLS := byHTTP
	byTLS.Type = acme.ChallengeTypeTLSALPN01

	handler := other.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a script") }))
	lists := &lean.Server{Handler: other.Handler(listing{}), HTTP: &http.Server{ReadHeaderTimeout: time.Minute}}
	addr := serveLean(t, lists)
	f := func(method, host, path, want string) {
		t.Helper()
		if got := askLean(t, addr, method, host, path); got != want {
			t.Errorf("with lists, %s http://%s%s: %q, want %q", method, host, path, got, want)
		}
		r := httptest.NewRequest(method, "http://"+host+path, nil)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if got := w.Body.String(); got != want {
			t.Errorf("%s http://%s%s: %q, want %q", method, host, path, got, want)
		}
	}
	const path = "/.well-known/acme-challenge/"
	f(http.MethodGet, "shop.example.com", path+token, "a script")
	for _, c := range []acme.Challenge{byHTTP, byTLS} {
		if err := (solver{a.folder}).Present(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	f(http.MethodGet, "shop.example.com", path+token, token+".thumb")
	f(http.MethodGet, "Shop.example.com:80", path+token, token+".thumb")
	f(http.MethodPost, "shop.example.com", path+token, "a script")
	f(http.MethodGet, "blog.example.com", path+token, "a script")
	f(http.MethodGet, "shop.example.com", path+token+"x", "a script")
	f(http.MethodGet, "shop.example.com", path+"..%2faccount.json", "a script")
	f(http.MethodGet, "shop.example.com", path, "a script")
	if got := askLean(t, addr, http.MethodGet, "shop.example.com", "/"); got != "a list" {
		t.Errorf("a request for a script was answered %q", got)
	}

	c := loadWith(t, other)
	leaf, err := visit(t, c, "shop.example.com", acmez.ACMETLS1Protocol)
	if err != nil || len(leaf.UnhandledCriticalExtensions) != 1 {
		t.Errorf("tls-alpn-01 got %v, %v", leaf, err)
	}
	for _, c := range []acme.Challenge{byHTTP, byTLS} {
		if err := (solver{a.folder}).CleanUp(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	f(http.MethodGet, "shop.example.com", path+token, "a script")
	if _, err := visit(t, c, "shop.example.com", acmez.ACMETLS1Protocol); err == nil {
		t.Error("tls-alpn-01 is answered though it is over")
	}
	if err := (solver{a.folder}).Present(t.Context(), acme.Challenge{Type: acme.ChallengeTypeHTTP01, Token: "../../x"}); err == nil {
		t.Error("a token that is a path was taken")
	}
}

func TestNobodyElseReadsACMEKeys(t *testing.T) {
	dir := t.TempDir()
	a := newTestACME(t, dir, &authority{lifetime: time.Hour}, time.Now)
	if _, err := visit(t, loadWith(t, a), "shop.example.com"); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(a.folder.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files++
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", path, mode)
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("looked at %d files, %v", files, err)
	}
}

// listing is a handler of both kinds of requests.
type listing struct{}

func (listing) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "a script")
}
func (listing) ServeList(x *lean.Exchange) { _, _ = io.WriteString(x.Writer(), "a list") }

func serveLean(t *testing.T, s *lean.Server) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return l.Addr().String()
}

func askLean(t *testing.T, addr, method, host, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
