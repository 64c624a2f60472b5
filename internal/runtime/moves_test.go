package runtime

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// shares is a snapshot whose deployment gives v1 and v2 these shares, in percent.
func (r *rig) shares(first, second int) *deploy.Snapshot {
	s := r.snapshot()
	s.Scripts[0].Splits = []deploy.Split{
		{VersionID: v1, Percentage: deploy.Percentage(first) * deploy.Full / 100},
		{VersionID: v2, Percentage: deploy.Percentage(second) * deploy.Full / 100},
	}
	s.Scripts[0].ObjectsDelayMS = 300_000
	return s
}

// split puts them into the deployment and waits until both serve.
func (r *rig) split(first, second int) (*deploy.Snapshot, map[string]worker) {
	r.t.Helper()
	s := r.shares(first, second)
	all := map[string]worker{}
	for id, rt := range r.Update(s) {
		all[id] = rt.(worker)
	}
	for _, split := range s.Scripts[0].Splits {
		r.waitState(all[split.VersionID], func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
	}
	return s, all
}

// Whichever version calls an object, its id decides which one runs it.
func TestObjectsRunTheVersionOfTheirID(t *testing.T) {
	r := newObjects(t, v1, v2)
	s, all := r.split(50, 50)
	ran := map[string]int{}
	for i := range 40 {
		path := fmt.Sprintf("/add?name=object-%d", i)
		for n, via := range []string{v1, v2, v1} {
			got := count(t, all[via], path)
			want := s.Scripts[0].Splits[deploy.PickObject(s.Scripts[0].Splits, got.ID)].VersionID
			if got.Version != want || got.N != n+1 || got.Name != fmt.Sprintf("object-%d", i) {
				t.Errorf("object %d by version %s: %+v, want version %s", i, via, got, want)
			}
			ran[got.Version]++
		}
	}
	if len(ran) != 2 {
		t.Errorf("only %v ran any", ran)
	}
}

// A ramp under load, up and back: no call fails, each object counts on without a
// gap, and while a share grows no object leaves its version.
func TestObjectsMoveUnderLoad(t *testing.T) {
	r := newObjects(t, v1, v2)
	_, all := r.split(100, 0)
	const objects = 24
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for i := range 6 {
		callers.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				via := []string{v1, v2}[n%2]
				path := fmt.Sprintf("/add?name=%d", n%objects)
				if n%3 == 0 {
					path = fmt.Sprintf("/fetch?name=%d", n%objects)
				}
				status, body, err := get(t, all[via], path)
				if err != nil || status != http.StatusOK || !strings.HasPrefix(body, "{") {
					t.Errorf("%s by version %s: %d %q, %v", path, via, status, body, err)
					return
				}
			}
		})
	}
	settled := func(s *deploy.Snapshot) {
		t.Helper()
		until(t, "the moves", func() bool {
			for i := range objects {
				got := count(t, all[v1], fmt.Sprintf("/add?name=%d", i))
				if got.Version != s.Scripts[0].Splits[deploy.PickObject(s.Scripts[0].Splits, got.ID)].VersionID {
					return false
				}
			}
			return true
		})
	}
	for _, share := range []int{0, 20, 50, 100, 40, 0} {
		s, _ := r.split(100-share, share)
		settled(s)
	}
	close(stop)
	callers.Wait()
	for i := range objects {
		var list []counted
		if err := json.Unmarshal([]byte(mustGet(t, all[v1], fmt.Sprintf("/log?name=%d", i))), &list); err != nil {
			t.Fatal(err)
		}
		changes := 0
		for n, c := range list {
			if c.N != n+1 {
				t.Fatalf("object %d: write %d came after %d others", i, c.N, n)
			}
			if n > 0 && list[n-1].Version != c.Version {
				changes++
			}
		}
		if changes != 2 { // up once, and back once
			t.Errorf("object %d changed its version %d times", i, changes)
		}
	}
}

// The alarm goes with its object, and rings once, in the version that has it, though
// nobody calls it.
func TestAlarmsMoveWithTheirObjects(t *testing.T) {
	r := newObjects(t, v1, v2)
	_, all := r.split(100, 0)
	const objects = 10
	for i := range objects {
		mustGet(t, all[v1], fmt.Sprintf("/later?ms=8000&name=%d", i)) // late enough for the deployment to be in force
	}
	r.split(0, 100)
	for range objects {
		if e := r.next(isAlarm); e.versionID != v2 || e.inv.Outcome != "ok" {
			t.Errorf("an alarm rang in version %s with %q", e.versionID, e.inv.Outcome)
		}
	}
	for i := range objects {
		var list []counted
		if err := json.Unmarshal([]byte(mustGet(t, all[v2], fmt.Sprintf("/log?name=%d", i))), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].Version != v2 {
			t.Errorf("object %d: its alarm wrote %+v", i, list)
		}
	}
	if owed, err := r.workers.objects.owed(counterID); err != nil || len(owed) != 0 {
		t.Errorf("owed are still %v, error %v", owed, err)
	}
}

func isAlarm(e event) bool { return e.inv != nil && e.inv.EventType == "alarm" }

// An alarm that is overdue rings before the process serves, and sees nothing of ours.
func TestOverdueAlarmsSeeTheirOwnExports(t *testing.T) {
	r := newRig(t, withObjectsHere)
	r.add(v1, `import { DurableObject } from "cloudflare:workers";
	export class Counter extends DurableObject {
		later() { return this.ctx.storage.setAlarm(Date.now() + 1000); }
		alarm() { console.log(Object.keys(this.env).sort().join(), Object.keys(this.ctx.exports).sort().join(), typeof this.ctx.exports.Counter.getByName); }
	}
	export default { async fetch(request, env) { await env.COUNTER.getByName("one").later(); return new Response("set"); } }`, withCounter)
	mustGet(t, r.deploy(v1)[v1], "/")
	due := time.Now().Add(1100 * time.Millisecond)
	r.Close()
	until(t, "the time of the alarm", func() bool { return time.Now().After(due) })
	r.Backends = r.open(withObjectsHere)
	r.deploy(v1)
	logs := r.next(isAlarm).inv.Logs
	if len(logs) != 1 || fmt.Sprintf("%s", logs[0].Message) != `["COUNTER,V" "Counter,default" "function"]` {
		t.Errorf("the alarm logged %v", logs)
	}
}

// When the deployment changes, whoever calls an object next has it moved: also who has
// called it before.
func TestCalledObjectsMoveFirst(t *testing.T) {
	r := newObjects(t, v1, v2)
	_, all := r.split(50, 50)
	for i := range 30 {
		mustGet(t, all[v2], fmt.Sprintf("/add?name=%d", i))
	}
	r.split(0, 100)
	until(t, "the end of the old permits", func() bool { return count(t, all[v2], "/add?name=0").Version == v2 })
	for i := range 30 {
		if got := count(t, all[v2], fmt.Sprintf("/add?name=%d", i)); got.Version != v2 {
			t.Errorf("object %d was run by version %s", i, got.Version)
		}
	}
}

// A process that loses the storage of one class goes when the calls to another one that
// it has in hand have ended.
func TestLosingAClassSparesTheOthers(t *testing.T) {
	r := newRig(t, withObjectsHere)
	both := func(b *deploy.Bundle) {
		withCounter(b)
		b.Worker.DurableObjects = append(b.Worker.DurableObjects, deploy.DurableObjectNamespace{ID: otherID, Class: "Other", SQLite: true})
		b.Worker.Exports.Named = append(b.Worker.Exports.Named, deploy.NamedExport{Name: "Other", Kind: deploy.ExportDurableObject})
	}
	for _, id := range []string{v1, v2} {
		r.add(id, counter+"\nexport class Other extends DurableObject {}", both)
	}
	_, all := r.split(100, 0)
	mustGet(t, all[v1], "/add")
	mustGet(t, all[v2], "/add")
	held := make(chan string)
	go func() {
		_, body, err := get(t, all[v2], "/hold?ms=1000")
		held <- fmt.Sprint(body, err)
	}()
	until(t, "the call", func() bool { return r.calls(t, all[v2]) > 0 })
	s := r.shares(100, 0)
	for i := range s.Scripts[0].Versions {
		w := *s.Scripts[0].Versions[i].Worker
		w.Objects = w.Objects[:1]
		s.Scripts[0].Versions[i].Worker = &w
	}
	r.Update(s) // Other is another script's now
	for {
		select {
		case got := <-held:
			if !strings.HasPrefix(got, `{"version"`) {
				t.Errorf("the call in hand got %s", got)
			}
			return
		default:
			mustGet(t, all[v2], "/add")
		}
	}
}

func TestBusyObjectsStayForAWhile(t *testing.T) {
	r := newObjects(t, v1, v2)
	_, all := r.split(100, 0)
	count(t, all[v1], "/add")
	held := make(chan string)
	go func() {
		_, body, err := get(t, all[v1], "/hold?ms=1500")
		held <- fmt.Sprintf("%s %v", body, err)
	}()
	until(t, "the call", func() bool {
		return r.calls(t, all[v1]) > 0
	})
	r.split(0, 100)
	if got := count(t, all[v2], "/add"); got.Version != v1 || got.N != 2 {
		t.Errorf("while it is busy the object counted %+v", got)
	}
	if got := <-held; !strings.Contains(got, v1) || !strings.HasSuffix(got, "<nil>") {
		t.Errorf("the call that it had in hand got %s", got)
	}
	until(t, "the move", func() bool { return count(t, all[v2], "/add").Version == v2 })
}

// calls asks the process how many calls to the objects it has in hand.
func (r *rig) calls(t *testing.T, w worker) int {
	t.Helper()
	r.workers.homes.mu.Lock()
	n := r.workers.homes.namespaces[counterID]
	r.workers.homes.mu.Unlock()
	n.mu.Lock()
	var keys []string
	for id := range n.objects {
		keys = append(keys, counterID+id)
	}
	n.mu.Unlock()
	calls, err := w.(*version).current.Load().revoke(t.Context(), 0, keys)
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func TestImmediateUpdateResetsObjects(t *testing.T) {
	r := newObjects(t, v1, v2)
	_, all := r.split(100, 0)
	count(t, all[v1], "/add")
	held := make(chan string)
	go func() {
		status, body, err := get(t, all[v1], "/hold?ms=60000")
		held <- fmt.Sprintf("%d %s %v", status, body, err)
	}()
	until(t, "the call", func() bool { return r.calls(t, all[v1]) > 0 })
	s := r.shares(0, 100)
	s.Scripts[0].ObjectsDelayMS = 0
	r.Update(s)
	r.waitState(all[v2], func(s deploy.BackendState) bool { return s.Phase == deploy.BackendReady })
	if got := count(t, all[v2], "/add"); got.Version != v2 || got.N != 2 {
		t.Errorf("counted %+v", got)
	}
	if got := <-held; !strings.Contains(got, "reset because its code was updated") {
		t.Errorf("the call that it had in hand got %s", got)
	}
}

// A version that cannot start gets no objects: they stay with the one that runs.
func TestObjectsStayWhereTheyCanRun(t *testing.T) {
	r := newObjects(t, v1)
	r.add(v2, `throw new Error("no start")`, withCounter)
	all := r.deploy(v1)
	mustGet(t, all[v1], "/add")
	next := r.Update(r.snapshot(v2))[v2].(worker)
	r.waitState(next, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendFailed })
	if got := count(t, all[v1], "/add"); got.Version != v1 || got.N != 2 {
		t.Errorf("counted %+v", got)
	}
	back := r.Update(r.snapshot(v1))[v1].(worker)
	if got := count(t, back, "/add"); got.Version != v1 || got.N != 3 {
		t.Errorf("after the rollback it counted %+v", got)
	}
}

// Objects of a version that no process runs, and that nobody knows any more, move as
// files, with their alarms.
func TestObjectsMoveWithoutTheirProcess(t *testing.T) {
	r := newObjects(t, v1, v2)
	all := r.deploy(v1)
	for i := range 5 {
		mustGet(t, all[v1], fmt.Sprintf("/add?name=%d", i))
	}
	mustGet(t, all[v1], "/later?ms=3000&name=alarmed")
	r.Close()
	r.Backends = r.open(withObjectsHere)
	r.source.mu.Lock()
	delete(r.source.bundles, v1)
	r.source.mu.Unlock()
	all = r.deploy(v2)
	for i := range 5 {
		if got := count(t, all[v2], fmt.Sprintf("/add?name=%d", i)); got.Version != v2 || got.N != 2 {
			t.Errorf("object %d counted %+v", i, got)
		}
	}
	until(t, "the alarm", func() bool {
		body := mustGet(t, all[v2], "/log?name=alarmed")
		return strings.Contains(body, v2)
	})
	until(t, "the end of the empty folder", func() bool {
		versions, err := r.workers.objects.versions()
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, v := range versions {
			if err := r.workers.objects.each(v, counterID, func(string) bool { found++; return true }); err != nil {
				t.Fatal(err)
			}
		}
		return found == 6
	})
}

// Before objects moved, all of a namespace had one folder.
func TestObjectsOfTheLayoutBeforeAreTakenOver(t *testing.T) {
	r := newObjects(t, v1)
	all := r.deploy(v1)
	mustGet(t, all[v1], "/add")
	r.Close()
	dir := filepath.Join(r.dir, "objects")
	if err := os.Rename(filepath.Join(dir, v1, counterID), filepath.Join(dir, counterID)); err != nil {
		t.Fatal(err)
	}
	r.Backends = r.open(withObjectsHere)
	if got := count(t, r.deploy(v1)[v1], "/add"); got.N != 2 {
		t.Errorf("counted %+v", got)
	}
}

// A deployment that comes while an object waits can only bring its move forward.
func TestPatienceFollowsTheDeployment(t *testing.T) {
	set := &workers{cfg: WorkerConfig{}.withDefaults()}
	n := newHomes(set).namespaceLocked(counterID)
	o := &object{objectName: objectName{counterID, strings.Repeat("0", 64)}, home: v1}
	n.objects[o.id] = o
	deployed := func(version string, delay time.Duration) {
		n.update(&deploy.SnapshotScript{
			AccountID: testAccount, Name: "shop", ObjectsDelayMS: delay.Milliseconds(),
			Splits: []deploy.Split{{VersionID: version, Percentage: deploy.Full}},
		}, map[string]string{v1: counterName, v2: counterName, v3: counterName})
	}
	f := func(what string, wantGrace time.Duration, wantLast bool) {
		t.Helper()
		if grace, last := n.patience(o); grace != wantGrace || last != wantLast {
			t.Errorf("%s: patience is %v, %v; want %v, %v", what, grace, last, wantGrace, wantLast)
		}
	}
	deployed(v2, time.Hour)
	f("a delay of an hour", busyPatience, false)
	due := o.due
	deployed(v3, 2*time.Hour)
	if o.due != due {
		t.Errorf("a later deployment moved the end from %v to %v", due, o.due)
	}
	deployed(v2, time.Minute)
	if !o.due.Before(due) {
		t.Errorf("a shorter delay left the end at %v", o.due)
	}
	o.due = time.Now().Add(-time.Second)
	f("after the delay", 0, true)
	deployed(v3, 0)
	f("an immediate update", 0, true)
	deployed(v1, time.Hour)
	if !o.due.IsZero() {
		t.Errorf("it is to move at %v, though it is where it belongs", o.due)
	}
}

// A deployment is not left to wait until what failed before it is tried again.
func TestDeploymentsEndTheWaitOfMoves(t *testing.T) {
	h := newHomes(&workers{running: t.Context()})
	h.mu.Lock()
	n := h.namespaceLocked(counterID)
	h.mu.Unlock()
	n.update(&deploy.SnapshotScript{Splits: []deploy.Split{{VersionID: v2, Percentage: deploy.Full}}}, map[string]string{v2: "Counter"})
	if !n.changesWithin(time.Hour) {
		t.Error("it was not told of the deployment")
	}
}
