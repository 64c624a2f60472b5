// Package deploy holds what operators are given to deploy Tidegate by against the libraries
// that will read it: Helm, Kubernetes' own types, Prometheus. `make test-deploy` runs it.
// Whether the flags in it exist is checked beside them, in test/compose, from the golden files.
package deploy

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/releaseutil"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

const chartFolder = "../../deploy/helm/tidegate"

// kinds that the chart may make, each as Kubernetes knows it.
var kinds = map[string]func() any{
	"v1/Service":                              func() any { return new(core.Service) },
	"v1/ServiceAccount":                       func() any { return new(core.ServiceAccount) },
	"apps/v1/StatefulSet":                     func() any { return new(apps.StatefulSet) },
	"apps/v1/Deployment":                      func() any { return new(apps.Deployment) },
	"batch/v1/CronJob":                        func() any { return new(batch.CronJob) },
	"v1/PersistentVolumeClaim":                func() any { return new(core.PersistentVolumeClaim) },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return new(autoscaling.HorizontalPodAutoscaler) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networking.NetworkPolicy) },
	"networking.k8s.io/v1/Ingress":            func() any { return new(networking.Ingress) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policy.PodDisruptionBudget) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(monitoring.PrometheusRule) },
}

func loaded(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartFolder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render is what Helm would send to a cluster, its notes left out.
func render(t *testing.T, values map[string]any) (string, error) {
	t.Helper()
	c := loaded(t)
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "tidegate", Namespace: "edge", IsInstall: true}, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", err
	}
	notes := "tidegate/templates/NOTES.txt"
	if !strings.Contains(files[notes], "kubectl") {
		t.Errorf("the notes say %q", files[notes])
	}
	delete(files, notes)
	var manifests []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		parts := releaseutil.SplitManifests(files[name])
		names := slices.Collect(maps.Keys(parts))
		sort.Sort(releaseutil.BySplitManifestsOrder(names))
		for _, n := range names {
			manifests = append(manifests, strings.TrimSpace(parts[n])+"\n")
		}
	}
	return strings.Join(manifests, "---\n"), nil
}

func readValues(t *testing.T, path string) map[string]any {
	t.Helper()
	values, err := chartutil.ReadValuesFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// objects are the manifests, none of whose members Kubernetes would not know.
func objects(t *testing.T, manifests string) (all []any) {
	t.Helper()
	seen := map[string]bool{}
	for manifest := range strings.SplitSeq(manifests, "\n---\n") {
		var head struct {
			APIVersion, Kind string
			Metadata         struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(manifest), &head); err != nil {
			t.Fatalf("%v\n%s", err, manifest)
		}
		kind := head.APIVersion + "/" + head.Kind
		id := kind + " " + head.Metadata.Name
		if kinds[kind] == nil {
			t.Fatalf("%s is of a kind that is not checked", id)
		}
		if seen[id] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		object := kinds[kind]()
		if err := yaml.UnmarshalStrict([]byte(manifest), object); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		all = append(all, object)
	}
	return all
}

func TestValueSets(t *testing.T) {
	sets, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(sets) < 3 {
		t.Fatalf("value sets: %v, %v", sets, err)
	}
	for _, path := range sets {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".values.yaml"), func(t *testing.T) {
			values := readValues(t, path)
			for _, m := range lint.AllWithKubeVersion(chartFolder, values, "edge", nil).Messages {
				if !strings.Contains(m.Error(), "icon is recommended") {
					t.Errorf("helm lint: %s", m.Error())
				}
			}
			got, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			fits(t, objects(t, got))
			golden := strings.TrimSuffix(path, ".values.yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != got {
				t.Errorf("%s is not what the chart renders (%v): look at what changed, and write it with `make test-deploy ARGS=-update`", golden, err)
			}
		})
	}
}

// What cannot work is refused before anything is installed, by its name.
func TestRefusals(t *testing.T) {
	f := func(want, values string) {
		t.Helper()
		set := readValues(t, "testdata/minimal.values.yaml")
		over, err := chartutil.ReadValues([]byte(values))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render(t, chartutil.CoalesceTables(over, set)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want one with %q", values, err, want)
		}
	}
	f("image.repository is not set", `{image: {repository: ""}}`)
	f("gateway.domain is not set", `{gateway: {domain: ""}}`)
	f("kafka.brokers is empty", `{kafka: {brokers: []}}`)
	f("clickhouse.existingSecret is not set", `{clickhouse: {existingSecret: ""}}`)
	f("database.existingSecret is not set", `{database: {existingSecret: ""}}`)
	f("secretsKey.existingSecret is not set", `{secretsKey: {existingSecret: ""}}`)
	f("kafka.sasl.username is not set", `{kafka: {sasl: {mechanism: PLAIN}}}`)
	f("kafka.sasl.existingSecret is not set", `{kafka: {sasl: {mechanism: PLAIN, username: u}}}`)
	f("kafka.tls.enabled is false", `{kafka: {tls: {caSecret: ca}}}`)
	f("tls.api.secret", `{tls: {api: {caSecret: ca}}}`)
	f("tls.api.secret", `{tls: {router: {secret: r}}}`)
	f("begins with https://", `{tls: {router: {secret: r}}, router: {apiURL: "http://control:8787"}}`)
	f("tls.api.clientCASecret needs tls.api.secret", `{tls: {api: {clientCASecret: ca}}}`)
	f("tls.router.secret is not set", `{tls: {api: {secret: a, clientCASecret: ca}}}`)
	f("tls.ops.secret is not set", `{tls: {ops: {caSecret: ca}}}`)
	f("gateway.trustedProxies", `{gateway: {proxyProtocol: true}}`)
	f("router.durableObjects needs router.replicas: 1", `{router: {durableObjects: true}}`)
	f("networkPolicy.apiFrom is empty", `{ingress: {api: {enabled: true, host: a.example.com}}}`)
	f("networkPolicy.metricsFrom is empty", `{metrics: {serviceMonitor: {enabled: true}}}`)
	f("ingress.gateway.hosts is empty", `{ingress: {gateway: {enabled: true}}}`)
	f("gateway.trustedProxies is empty", `{ingress: {api: {enabled: true, host: a.example.com}}, networkPolicy: {enabled: false}}`)
	f("ingress.api.host is not set", `{ingress: {api: {enabled: true}}, gateway: {trustedProxies: [10.0.0.0/8]}, networkPolicy: {enabled: false}}`)
	// By the schema.
	f("routersNeedCertificate", `{tls: {api: {routersNeedCertificate: "yes"}}}`)
	f("certificate", `{tls: {ops: {certificate: a}}}`)
	f("pattern", `{tls: {api: {secret: /etc/tls.crt}}}`)
	f("keep", `{backup: {enabled: true, keep: 0}}`)
	f("schedule", `{backup: {enabled: true, schedule: daily}}`)
	f("replica", `{router: {replica: 3}}`)
	f("brokers", `{kafka: {brokers: ["kafka"]}}`)
	f("mechanism", `{kafka: {sasl: {mechanism: GSSAPI}}}`)
	f("logLevel", `{logLevel: loud}`)
	f("extraArgs", `{ingest: {extraArgs: ["ingest-inserts=8"]}}`)
	f("password", `{database: {password: secret}}`)
}
