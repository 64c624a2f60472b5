package gateway

import (
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"tidegate/internal/deploy"
)

// anyBackends serve every version of a snapshot, or none of it.
type anyBackends struct{ none bool }

func (a anyBackends) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for _, sc := range s.Scripts {
		for _, v := range sc.Versions {
			if !a.none {
				all[v.ID] = instantBackend{}
			}
		}
	}
	return all
}

func (anyBackends) Release(func(string) bool) {}

// Whatever a snapshot says, it is refused, or it serves: its hosts answer, a version
// without a share is not drawn, and what is kept of it on disk is the same again.
func FuzzSnapshot(f *testing.F) {
	for _, s := range []*deploy.Snapshot{testSnapshot(), testSnapshot("*.example.com/a/*", "*/*", "shop.example.com/*")} {
		raw, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	const versions = `"versions":[{"id":"` + testVersion + `","alias":"next","origin":{"url":"http://10.0.0.1"}},{"id":"b","origin":{"url":"h2c://b:1/x"}}]`
	f.Add([]byte(`{"revision":3,"scripts":[{"account_id":"a","subdomain":"dev","name":"shop","splits":[{"version_id":"` + testVersion + `","percentage":99.999},{"version_id":"b","percentage":0.001}],` +
		`"affinity":[{"source":"cookie","name":"id"},{"source":"path","prefix":"/rooms/"},{"source":"path","segment":2},{"source":"moon"}],` + versions + `}]}`))
	f.Add([]byte(`{"revision":3,"newer":{"member":1},"scripts":[{"account_id":"a","subdomain":"dev","name":"shop","host_disabled":true,"previews_disabled":true,"crons":["* * * * *","x"],` + versions + `}]}`))
	f.Add([]byte(`{"revision":3,"scripts":[{"account_id":"a","subdomain":"dev","name":"shop","splits":[{"version_id":"b","percentage":100}],"versions":[{"id":"b","worker":{"exports":{},"objects":[{"id":"x"}]}}]}]}`))
	f.Add([]byte(`{"revision":-1,"scripts":null}`))
	f.Add([]byte(`null`))
	config := DefaultConfig()
	config.StartWait = 1 // ns: what is not there does not come
	g, err := New(config, Deps{Snapshots: instantBackend{}, Backends: instantBackend{}, Emitter: instantBackend{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := new(deploy.Snapshot)
		if json.Unmarshal(raw, s) != nil || s.Validate() != nil {
			return
		}
		kept, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again := new(deploy.Snapshot)
		if err := json.Unmarshal(kept, again); err != nil || again.Validate() != nil {
			t.Fatalf("kept on disk it is none: %v", err)
		}
		if third, err := json.Marshal(again); err != nil || string(third) != string(kept) {
			t.Fatalf("%s became %s, %v", kept, third, err)
		}
		for _, backends := range []anyBackends{{}, {none: true}} {
			table, _ := compile(s, g.cfg.Domain, backends.Update(s), g.table.Load())
			g.table.Store(table)
			for host, to := range table.hosts {
				if to.script != nil && to.preview == nil && len(to.script.Splits) > 0 {
					p := to.script.choose(facts{}, rand.Uint64())
					if share(to.script, p.version.ID) == 0 {
						t.Fatalf("%s drew %s, which has no share", host, p.version.ID)
					}
				}
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodGet, "/rooms/1", nil)
				r.Host = host
				g.ServeHTTP(w, r)
				if _, err := io.Copy(io.Discard, w.Result().Body); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// share is what the deployment in force gives a version.
func share(sc *script, version string) deploy.Percentage {
	for _, split := range sc.draw.Splits {
		if split.VersionID == version {
			return split.Percentage
		}
	}
	return 0
}
