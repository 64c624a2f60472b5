package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// flips is how many deployments follow each other under load.
const flips = 1000

// sayVersion answers with the version that runs, and logs it.
const sayVersion = `export default {
  fetch(request, env) {
    console.log(env.VERSION.id);
    return new Response(env.VERSION.id);
  },
};
`

// TestFlipsUnderLoad moves all traffic from one Worker version to another and
// back, again and again, while requests come. None may fail, and no event may name
// another version than the one that answered: neither the half that the gateway
// knows, nor the half that comes from the runtime.
func TestFlipsUnderLoad(t *testing.T) {
	p := start(t, platform.Options{})
	one, err := p.DeployWorker(t.Context(), "flips", platform.JavaScript("one", sayVersion))
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.UploadWorker(t.Context(), "flips", platform.JavaScript("two", sayVersion+"// another\n"))
	if err != nil {
		t.Fatal(err)
	}
	answersAt(t, p, "flips", one)
	before, err := p.Counts(t.Context()) // the visits until then are no part of the test
	if err != nil {
		t.Fatal(err)
	}

	w := witness(t, p, "flips", 300)
	began := time.Now()
	for i := range flips {
		id := one
		if i%2 == 0 {
			id = two
		}
		if _, err := p.Deploy(t.Context(), "flips", deploy.Split{VersionID: id, Percentage: deploy.Full}); err != nil {
			t.Fatalf("deployment %d: %v", i, err)
		}
	}
	took := time.Since(began)
	answersAt(t, p, "flips", one) // the last deployment is in force in the end
	w.stop()
	if len(w.failures) > 0 {
		t.Errorf("%d of %d requests failed, the first: %v", len(w.failures), len(w.failures)+len(w.seen), w.failures[0])
	}
	served := map[string]int{}
	for _, id := range w.seen {
		served[id]++
	}
	t.Logf("%d deployments in %s; %d requests from the first version, %d from the second", flips, took.Round(time.Millisecond), served[one], served[two])
	if served[one]+served[two] != len(w.seen) || served[one] == 0 || served[two] == 0 {
		t.Errorf("the answers are %v; the versions are %s and %s", served, one, two)
	}

	events := map[string]string{} // version id by ray
	eventually(t, time.Minute, "every event is stored", func() (bool, error) {
		rows, err := p.Query(t.Context(), "SELECT ray_id, version_id FROM trace_events WHERE script_name = 'flips'")
		if err != nil {
			return false, err
		}
		for row := range strings.Lines(rows) {
			ray, version, _ := strings.Cut(strings.TrimSpace(row), "\t")
			events[ray] = version
		}
		for ray := range w.seen {
			if events[ray] == "" {
				return false, fmt.Errorf("%d events of %d are stored; one that is not is %s", len(events), len(w.seen), ray)
			}
		}
		return true, nil
	})
	wrong := 0
	for ray, version := range w.seen {
		if events[ray] != version {
			wrong++
			t.Logf("request %s was answered by %s; its event says %s", ray, version, events[ray])
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d events name the wrong version", wrong, len(w.seen))
	}
	joined, err := p.Count(t.Context(), "SELECT count() FROM trace_events WHERE script_name = 'flips' AND position(logs, version_id) = 0")
	if err != nil {
		t.Fatal(err)
	}
	if joined > 0 {
		t.Errorf("%d events have no log of their version", joined)
	}
	after, err := p.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Rows - before.Rows; got < int64(len(w.seen)) {
		t.Errorf("%d events for %d requests", got, len(w.seen))
	}
}

// witnessed is load that keeps which version answered which request.
type witnessed struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	seen     map[string]string // version id by ray
	failures []error
}

// witness sends about perSecond requests a second to a script that answers with
// its version's id.
func witness(t *testing.T, p *platform.Platform, script string, perSecond int) *witnessed {
	const clients = 4
	ctx, cancel := context.WithCancel(context.Background())
	w := &witnessed{cancel: cancel, seen: map[string]string{}}
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	for range clients {
		w.done.Go(func() {
			tick := time.NewTicker(time.Second * clients / time.Duration(perSecond))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					w.send(context.WithoutCancel(ctx), p, client, script)
				}
			}
		})
	}
	t.Cleanup(func() { w.stop(); transport.CloseIdleConnections() })
	return w
}

func (w *witnessed) send(ctx context.Context, p *platform.Platform, client *http.Client, script string) {
	ray, version, err := askVersion(ctx, p, client, script)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failures = append(w.failures, err)
		return
	}
	w.seen[ray] = version
}

func askVersion(ctx context.Context, p *platform.Platform, client *http.Client, script string) (ray, version string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Gateway+"/", nil)
	if err != nil {
		return "", "", err
	}
	req.Host = p.Host(script)
	res, err := client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	return res.Header.Get("Cf-Ray"), string(body), err
}

// stop ends the load and waits for the requests in flight.
func (w *witnessed) stop() {
	w.cancel()
	w.done.Wait()
}
