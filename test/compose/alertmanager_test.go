package compose

import (
	"bytes"
	"regexp"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every severity of an alert goes to somebody who can be named, also once the examples are
// taken; and a service mounts the file.
func TestAlertmanagerSendsEachSeveritySomewhere(t *testing.T) {
	text := []byte(readFile(t, "deploy/alertmanager/alertmanager.yml"))
	for _, text := range [][]byte{text, regexp.MustCompile(`(?m)^    # (\w+_configs:)`).ReplaceAll(text, []byte("    $1"))} {
		var c struct {
			Route struct {
				Receiver string
				Routes   []struct {
					Matchers []string
					Receiver string
				}
			}
			Receivers []map[string]any
		}
		if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&c); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		known := map[string]bool{}
		for _, r := range c.Receivers {
			known[r["name"].(string)] = true
		}
		goes := map[string]string{}
		for _, r := range c.Route.Routes {
			if len(r.Matchers) != 1 {
				t.Fatalf("a route has the matchers %q, want one", r.Matchers)
			}
			goes[r.Matchers[0]] = r.Receiver
		}
		severities := map[string]bool{}
		for _, match := range regexp.MustCompile(`severity: (\w+)}`).FindAllStringSubmatch(readFile(t, "deploy/prometheus/alerts.yml"), -1) {
			severities[match[1]] = true
		}
		for severity := range severities {
			to := c.Route.Receiver
			if receiver, ok := goes[`severity="`+severity+`"`]; ok {
				to = receiver
				delete(goes, `severity="`+severity+`"`)
			}
			if !known[to] {
				t.Errorf("%s goes to %q, which is no receiver", severity, to)
			}
		}
		if len(severities) < 3 || len(goes) > 0 {
			t.Errorf("of the severities %v none has the routes %v", severities, goes)
		}
	}
}
