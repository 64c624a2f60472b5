package compose

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// manifest is as much of what the chart renders as is looked at here. Whether it fits together,
// and is what Helm renders now, test/deploy checks.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Template struct {
			Spec struct {
				TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
				Containers                    []struct {
					Command, Args []string
					Env           []struct{ Name, Value string }
					Lifecycle     struct {
						PreStop struct{ Sleep struct{ Seconds int } } `yaml:"preStop"`
					}
				}
			}
		}
	}
}

// The pods of the chart would start: their own configuration takes every flag, and finds
// nothing missing; and there is time for a clean stop.
func TestTheChartPassesFlagsThatExist(t *testing.T) {
	sets, err := filepath.Glob(filepath.Join(root, "test", "deploy", "testdata", "*.golden.yaml"))
	if err != nil || len(sets) < 3 {
		t.Fatalf("found %v (%v)", sets, err)
	}
	for _, path := range sets {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checked := 0
		for manifests := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var m manifest
			if err := manifests.Decode(&m); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			for _, c := range m.Spec.Template.Spec.Containers {
				checked++
				who := filepath.Base(path) + ": " + m.Metadata.Name
				env := map[string]string{}
				for _, e := range c.Env {
					env[e.Name] = e.Value
				}
				for name, value := range map[string]string{ // they come from Secrets
					"TIDEGATE_DATABASE": "postgres://tidegate:secret@postgres/tidegate", "TIDEGATE_CLICKHOUSE": "http://tidegate:secret@clickhouse:8123/tidegate",
				} {
					if _, ok := env[name]; ok {
						env[name] = value
					}
				}
				config := accepted(t, who, c.Command[0], c.Args, env)
				if config.OpsAddr != ":9464" {
					t.Errorf("%s: operations are at %q, want :9464", who, config.OpsAddr)
				}
				stop := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second + config.DrainTimeout + 6*time.Second
				if grace := time.Duration(m.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second; grace < stop {
					t.Errorf("%s: has %s to stop, and may need %s", who, grace, stop)
				}
			}
		}
		if checked != 3 {
			t.Errorf("%s: checked %d processes, want one of each role", path, checked)
		}
	}
}

// The chart brings the rules that Prometheus loads elsewhere; it can read no file outside its folder.
func TestTheChartHasTheSameRules(t *testing.T) {
	if readFile(t, "deploy/helm/tidegate/files/alerts.yml") != readFile(t, "deploy/prometheus/alerts.yml") {
		t.Error("the rules of the chart are others: cp deploy/prometheus/alerts.yml deploy/helm/tidegate/files/")
	}
	if !strings.Contains(readFile(t, "deploy/prometheus/prometheus.yml"), "alerts.yml") {
		t.Error("Prometheus does not load them")
	}
}
