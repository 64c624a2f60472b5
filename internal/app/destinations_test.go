package app

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

// The dashboard's form of a destination has a table of its own. Its examples, which use
// every parameter that it offers, open here, and no scheme is without an example.
func TestTheDashboardKnowsEveryDestination(t *testing.T) {
	text, err := os.ReadFile("../../dashboards/web/src/pages/logpush/kinds.json")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []struct{ Scheme, Example string }
	if err := json.Unmarshal(text, &kinds); err != nil {
		t.Fatal(err)
	}
	config := DefaultConfig(RoleAPI)
	config.Logpush.AllowHTTP, config.Logpush.AllowLoopback, config.Logpush.GoogleAmbient = true, true, true
	config.Logpush.FileRoots = []string{"/srv/logpush"}
	// The process's own Google credentials need not be good, but have to be there.
	credentials := t.TempDir() + "/credentials.json"
	if err := os.WriteFile(credentials, []byte(`{"type":"authorized_user","client_id":"a","client_secret":"b","refresh_token":"c"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", credentials)
	sinks := (&process{config: config, log: slog.New(slog.DiscardHandler)}).sinks()
	missing := maps.Clone(sinks)
	for _, kind := range kinds {
		u, err := url.Parse(kind.Example)
		if err != nil {
			t.Fatal(err)
		}
		delete(missing, kind.Scheme)
		open, ok := sinks[u.Scheme]
		if !ok || !strings.HasPrefix(kind.Example, kind.Scheme+"://") {
			t.Errorf("%s is the example of %s, and no destination", kind.Example, kind.Scheme)
			continue
		}
		if _, err := open(u); err != nil {
			t.Errorf("%s: %v", kind.Example, err)
		}
	}
	if len(missing) > 0 {
		t.Errorf("the form does not know %v", slices.Sorted(maps.Keys(missing)))
	}
}
