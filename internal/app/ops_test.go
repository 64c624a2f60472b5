package app

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"tidegate/internal/telemetry"
)

// Profiles are there for whoever asked for them, and never the command line, which may have passwords.
func TestProfilesAreServedOnRequest(t *testing.T) {
	tel, err := telemetry.Start(t.Context(), "tidegate", Version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Stop(t.Context()) })
	for _, on := range []bool{false, true} {
		p := &process{config: Config{OpsPprof: on}, tel: tel}
		get := func(path string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			p.opsHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			return w
		}
		for _, name := range []string{"heap", "goroutine", "profile?seconds=1"} {
			w := get("/debug/pprof/" + name)
			if !on {
				if w.Code != http.StatusNotFound {
					t.Errorf("%s is served though nobody asked for it: %d", name, w.Code)
				}
				continue
			}
			unpacked, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Errorf("%s answered %d and no profile: %v", name, w.Code, err)
				continue
			}
			if text, err := io.ReadAll(unpacked); err != nil || len(text) == 0 {
				t.Errorf("%s answered a profile of %d bytes: %v", name, len(text), err)
			}
		}
		if w := get("/debug/pprof/cmdline"); w.Code != http.StatusNotFound {
			t.Errorf("the command line is served: %d %s", w.Code, w.Body)
		}
	}
}
