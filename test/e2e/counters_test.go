package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// counterClass has an object that writes down which version ran each of its calls. It
// logs that version too, so that an event shows whether it names the right one.
const counterClass = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS calls (n INTEGER PRIMARY KEY, version TEXT)");
  }
  add() {
    const version = this.env.VERSION.id;
    console.log(version);
    const { n } = this.ctx.storage.sql.exec("INSERT INTO calls (version) VALUES (?) RETURNING n", version).one();
    return { id: this.ctx.id.toString(), n, version };
  }
  fetch() { return Response.json(this.add()); }
  read() {
    console.log(this.env.VERSION.id);
    return { version: this.env.VERSION.id, calls: this.ctx.storage.sql.exec("SELECT n, version FROM calls ORDER BY n").toArray() };
  }
  async hold() {
    const added = this.add();
    this.holding = true;
    while (this.holding) await scheduler.wait(10);
    return added;
  }
  held() { return this.holding === true; }
  release() { this.holding = false; }
}
`

// counterCalls calls the object that is named in the query, as the path says. Whose
// class that is, is a matter of the binding.
const counterCalls = `export default {
  async fetch(request, env) {
    console.log(env.VERSION.id);
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/") return new Response(env.VERSION.id);
    const counter = env.COUNTER.getByName(searchParams.get("name"));
    try {
      if (pathname === "/fetch") return await counter.fetch("http://counter/");
      return Response.json((await counter[pathname.slice(1)]()) ?? null);
    } catch (e) {
      return new Response(e.message, { status: 500 });
    }
  },
};
`

// counted is the answer of a call that counts.
type counted struct {
	ID, Version string
	N           int
}

// counters are the objects that a script with counterCalls calls. It keeps what they
// answered; its methods may be called concurrently.
type counters struct {
	platform *platform.Platform
	script   string
	client   *http.Client

	mu    sync.Mutex
	added map[string]int     // answers, by the object's name
	last  map[string]counted // the answer that counted most, by the object's name
	ran   map[string]int     // answers, by the version of the object
}

func newCounters(t *testing.T, p *platform.Platform, script string) *counters {
	transport := &http.Transport{MaxIdleConnsPerHost: counterClients}
	t.Cleanup(transport.CloseIdleConnections)
	return &counters{
		platform: p, script: script, client: &http.Client{Transport: transport, Timeout: 30 * time.Second},
		added: map[string]int{}, last: map[string]counted{}, ran: map[string]int{},
	}
}

// counterNames are the names of n objects.
func counterNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("object-%d", i)
	}
	return names
}

// ask calls a method of an object, or its fetch handler.
func (c *counters) ask(ctx context.Context, method, name string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.platform.Gateway+"/"+method+"?name="+url.QueryEscape(name), nil)
	if err != nil {
		return err
	}
	req.Host = c.platform.Host(c.script)
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s by %s: status %d: %s", method, name, c.script, res.StatusCode, body)
	}
	return json.Unmarshal(body, answer)
}

// add has an object count, by RPC ("add") or by "fetch".
func (c *counters) add(ctx context.Context, method, name string) (counted, error) {
	var got counted
	if err := c.ask(ctx, method, name, &got); err != nil {
		return got, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added[name]++
	c.ran[got.Version]++
	if got.N > c.last[name].N {
		c.last[name] = got
	}
	return got, nil
}

// answered is how many calls an object has answered.
func (c *counters) answered(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.added[name]
}

// settled is how many objects ran the version that the splits give to their id when
// they answered last.
func (c *counters) settled(splits []deploy.Split) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, got := range c.last {
		if got.Version == splits[deploy.PickObject(splits, got.ID)].VersionID {
			n++
		}
	}
	return n
}

// mustAdd is add by RPC, which must be answered.
func (c *counters) mustAdd(t *testing.T, name string) counted {
	t.Helper()
	got, err := c.add(t.Context(), "add", name)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// settle waits until each object runs the version that the splits give to its id.
func (c *counters) settle(t *testing.T, names []string, splits ...deploy.Split) {
	t.Helper()
	eventually(t, 30*time.Second, "each object of "+c.script+" runs its version", func() (bool, error) {
		for i, name := range names {
			got, err := c.add(t.Context(), []string{"add", "fetch"}[i%2], name)
			if err != nil {
				return false, err
			}
			if want := splits[deploy.PickObject(splits, got.ID)].VersionID; got.Version != want {
				return false, fmt.Errorf("%s, of id %s, ran version %s, not %s", name, got.ID, got.Version, want)
			}
		}
		return true, nil
	})
}

// read returns the versions that ran an object's calls, in order.
func (c *counters) read(t *testing.T, name string) []string {
	t.Helper()
	var got struct {
		Version string
		Calls   []counted
	}
	if err := c.ask(t.Context(), "read", name, &got); err != nil {
		t.Fatal(err)
	}
	versions := make([]string, len(got.Calls))
	for i, call := range got.Calls {
		if call.N != i+1 {
			t.Fatalf("%s: call %d comes after %d others", name, call.N, i)
		}
		versions[i] = call.Version
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran[got.Version]++
	return versions
}

// ranEvents is what the events of calls of objects are, by the name of a version.
type ranEvents struct{ events, logged int }

// objectEvents reads how many events calls of the scripts' objects have, and how often
// these name their version in what was logged.
func objectEvents(t *testing.T, p *platform.Platform, scripts string) (map[string]ranEvents, error) {
	rows, err := p.Query(t.Context(), "SELECT version_id, count(), sum(countSubstrings(logs, version_id))"+
		" FROM trace_events WHERE script_name IN ("+scripts+") AND entrypoint = 'Counter' GROUP BY version_id")
	if err != nil {
		return nil, err
	}
	found := map[string]ranEvents{}
	for row := range strings.Lines(rows) {
		var id string
		var n ranEvents
		if _, err := fmt.Sscan(row, &id, &n.events, &n.logged); err != nil {
			return nil, err
		}
		found[id] = n
	}
	return found, nil
}

// checkEvents waits for an event of each call of an object that was answered to any of
// the callers, and holds the version of every event of their scripts to what its code
// logged. What an object logs while it has several calls in hand is told with the
// latest of them, so only the sums are known.
func checkEvents(t *testing.T, callers ...*counters) {
	t.Helper()
	p := callers[0].platform
	want := map[string]ranEvents{}
	var names []string
	for _, c := range callers {
		names = append(names, "'"+c.script+"'")
		c.mu.Lock()
		for id, n := range c.ran {
			want[id] = ranEvents{want[id].events + n, want[id].logged + n}
		}
		c.mu.Unlock()
	}
	scripts := strings.Join(names, ", ")
	eventually(t, time.Minute, "the objects' events are stored", func() (bool, error) {
		got, err := objectEvents(t, p, scripts)
		if err == nil && !maps.Equal(got, want) {
			err = fmt.Errorf("by version there are %v, for the answers %v", got, want)
		}
		return err == nil, err
	})
	mustNameVersions(t, p, scripts, "(entrypoint = '' OR logs != '[]')")
}

// mustNameVersions holds events of scripts to the version that their code has logged.
func mustNameVersions(t *testing.T, p *platform.Platform, scripts, condition string) {
	t.Helper()
	wrong, err := p.Query(t.Context(), "SELECT script_name, entrypoint, event_type, version_id, logs FROM trace_events"+
		" WHERE script_name IN ("+scripts+") AND "+condition+" AND position(logs, version_id) = 0 LIMIT 5")
	if err != nil {
		t.Fatal(err)
	}
	if wrong != "" {
		t.Errorf("events of %s name another version than the one that ran:\n%s", scripts, wrong)
	}
}

const counterClients = 4

// counterLoad has objects count, by RPC and by fetch in turn, until stop.
type counterLoad struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	answered int
	failures []error
}

// load makes about perSecond calls a second to the objects, one after the other.
func (c *counters) load(t *testing.T, names []string, perSecond int) *counterLoad {
	ctx, cancel := context.WithCancel(context.Background())
	l := &counterLoad{cancel: cancel}
	for first := range counterClients {
		l.done.Go(func() {
			tick := time.NewTicker(time.Second * counterClients / time.Duration(perSecond))
			defer tick.Stop()
			for i := first; ; i += counterClients {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				method := []string{"add", "fetch"}[i/counterClients%2]
				_, err := c.add(context.WithoutCancel(ctx), method, names[i%len(names)])
				l.note(err)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *counterLoad) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, err)
		return
	}
	l.answered++
}

// stop ends the load and waits for the calls in flight.
func (l *counterLoad) stop() {
	l.cancel()
	l.done.Wait()
}

// mustStop is stop for a load of which no call may have failed.
func (l *counterLoad) mustStop(t *testing.T) {
	t.Helper()
	l.stop()
	if len(l.failures) > 0 || l.answered == 0 {
		t.Errorf("%d calls were answered, %d failed, the first: %v", l.answered, len(l.failures), slices.Concat(l.failures, []error{nil})[0])
	}
}
