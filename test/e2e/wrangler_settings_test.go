package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// versionSecrets makes versions with secrets that are not deployed until they are.
func (s *release) versionSecrets(t *testing.T) {
	s.runWith(t, "first", "versions", "secret", "put", "SECRET")
	if got := s.header(t).Get("x-secret"); got != "none" {
		t.Errorf("a version that is not deployed has told its secret: %q", got)
	}
	list := decode[[]listed](t, s.run(t, "versions", "list", "--json"))
	newest := slices.MaxFunc(list, func(a, b listed) int { return a.Number - b.Number })
	s.run(t, "versions", "deploy", newest.ID+"@100", "-y")
	s.secretIs(t, "first")
	if out := s.run(t, "versions", "secret", "list"); !strings.Contains(out, "SECRET") {
		t.Errorf("the secret is not listed:\n%s", out)
	}
	if out := s.run(t, "versions", "view", newest.ID); strings.Contains(out, "first") || !strings.Contains(out, "SECRET") {
		t.Errorf("a version is shown without its secret's name or with its text:\n%s", out)
	}
}

// secrets changes secrets of what is deployed.
func (s *release) secrets(t *testing.T) {
	s.runWith(t, "second", "secret", "put", "SECRET")
	s.secretIs(t, "second")
	s.write(t, "secrets.json", `{"SECRET": "third", "OTHER": "text"}`)
	s.run(t, "secret", "bulk", "secrets.json")
	s.secretIs(t, "third")
	names := decode[[]struct{ Name, Type string }](t, s.run(t, "secret", "list", "--format", "json"))
	if len(names) != 2 {
		t.Errorf("the secrets are %+v", names)
	}
	s.run(t, "secret", "delete", "SECRET")
	s.secretIs(t, "none")

	// A deploy keeps secrets that the configuration does not name.
	s.run(t, "deploy")
	names = decode[[]struct{ Name, Type string }](t, s.run(t, "secret", "list", "--format", "json"))
	if len(names) != 1 || names[0].Name != "OTHER" {
		t.Errorf("after a deploy the secrets are %+v", names)
	}
}

// secretIs waits until the Worker answers with this text of its secret.
func (s *release) secretIs(t *testing.T, want string) {
	t.Helper()
	eventually(t, 30*time.Second, "the secret is "+want, func() (bool, error) {
		return s.header(t).Get("x-secret") == want, nil
	})
}

// logpush opts the Worker out of Logpush and in again, by its configuration.
func (s *release) logpush(t *testing.T) {
	is := func(what string, want bool) {
		t.Helper()
		var settings struct{ Logpush bool }
		if err := s.platform.API(t.Context(), http.MethodGet, "/accounts/{account}/workers/scripts/"+s.name+"/script-settings", nil, &settings); err != nil {
			t.Fatal(err)
		}
		if settings.Logpush != want {
			t.Errorf("%s: logpush is %v", what, settings.Logpush)
		}
	}
	configure := func(logpush any) {
		t.Helper()
		config := map[string]any{"version_metadata": map[string]string{"binding": "VERSION"}}
		if logpush != nil {
			config["logpush"] = logpush
		}
		s.configure(t, config)
	}
	is("a configuration that never named it", true)
	configure(false)
	latest := versionID(t, s.run(t, "deploy"))
	is("a deploy with false", false)
	configure(nil)
	s.run(t, "versions", "deploy", latest+"@100", "-y")
	is("a deployment that does not name it", false)
	configure(true)
	s.run(t, "versions", "deploy", latest+"@100", "-y")
	is("a deployment with true", true)
}

// triggers gives the Worker a route and a cron.
func (s *release) triggers(t *testing.T) {
	host := s.name + ".example.com"
	s.configure(t, map[string]any{
		"version_metadata": map[string]string{"binding": "VERSION"},
		"routes":           []map[string]string{{"pattern": host + "/*", "zone_name": "example.com"}},
		"triggers":         map[string][]string{"crons": {"*/5 * * * *"}},
	})
	s.run(t, "triggers", "deploy")
	eventually(t, 30*time.Second, "the route leads to the Worker", func() (bool, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.platform.Gateway+"/", nil)
		if err != nil {
			return false, err
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		_ = res.Body.Close() // only its header is asked for
		return res.Header.Get("x-version") != "", nil
	})
	var schedules struct{ Schedules []struct{ Cron string } }
	if err := s.platform.API(t.Context(), http.MethodGet, "/accounts/{account}/workers/scripts/"+s.name+"/schedules", nil, &schedules); err != nil {
		t.Fatal(err)
	}
	if len(schedules.Schedules) != 1 || schedules.Schedules[0].Cron != "*/5 * * * *" {
		t.Errorf("the schedules are %+v", schedules)
	}
}

// cron has a scheduled handler run by its schedule, as an event of its own.
func cron(t *testing.T, p *platform.Platform) {
	w := newProject(t, wranglers[len(wranglers)-1], p, record(t, p), "clock")
	w.configure(t, map[string]any{"triggers": map[string][]string{"crons": {"* * * * *"}}})
	w.write(t, "src/index.js", `export default {
  scheduled(controller, env, ctx) { console.log("it is time", controller.cron); },
};
`)
	w.run(t, "deploy")
	eventually(t, 90*time.Second, "the scheduled handler has run", func() (bool, error) {
		row, err := p.Query(t.Context(), "SELECT outcome, position(logs, 'it is time') > 0 FROM trace_events WHERE script_name = 'clock' AND event_type = 'scheduled' LIMIT 1")
		if err == nil && row != "ok\t1" {
			err = fmt.Errorf("the events are %q", row)
		}
		return err == nil, err
	})
}

func (s *release) remove(t *testing.T) {
	s.run(t, "delete")
	gone(t, s.platform, s.name)
}

// gone waits until nothing answers at the script's host.
func gone(t *testing.T, p *platform.Platform, script string) {
	t.Helper()
	eventually(t, 30*time.Second, script+" is gone", func() (bool, error) {
		status, _, err := p.Visit(t.Context(), http.DefaultClient, script, nil)
		return status == http.StatusNotFound, err
	})
}
