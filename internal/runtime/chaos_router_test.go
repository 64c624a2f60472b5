package runtime

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// chaosDir is set for a child of the test that is a router of its own.
const chaosDir = "TIDEGATE_TEST_CHAOS_DIR"

// TestChaosRouter is the child: it serves, under load and with deployments that
// change, until somebody kills it. It writes a line for each write that was
// acknowledged.
func TestChaosRouter(t *testing.T) {
	dir := os.Getenv(chaosDir)
	if dir == "" {
		t.Skip("it is a child of TestKilledRoutersLoseNothing")
	}
	rng := seeded(t)
	c := chaosOn(t, dir)
	c.tolerant.Store(true) // the processes of the router before may have to end first
	c.tokens.Store(time.Now().UnixNano())
	c.acknowledged = func(name string, e entry) {
		line, err := json.Marshal(map[string]any{"name": name, "entry": e})
		if err != nil {
			t.Error(err)
		}
		fmt.Printf("\nACK %s\n", line)
	}
	c.ramp(rng.IntN(101))
	defer c.load(t, rng, 4, 4)()
	for {
		c.ramp(rng.IntN(101))
		pass(rng, 300*time.Millisecond)
	}
}

// A router is killed in the middle of moves. The next one on its folder finds all that
// was acknowledged, and rings what was to ring.
func TestKilledRoutersLoseNothing(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	c := &chaos{acked: map[string]map[string]entry{}}
	for range rounds(t, 6) {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChaosRouter$")
		child.Env = append(os.Environ(), chaosDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		acks := make(chan struct{}, 1<<20)
		read := make(chan struct{})
		go func() {
			defer close(read)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				text, ok := strings.CutPrefix(lines.Text(), "ACK ")
				var a struct {
					Name  string
					Entry entry
				}
				if !ok || json.Unmarshal([]byte(text), &a) != nil { // the last line may be cut
					continue
				}
				c.ack(a.Name, a.Entry)
				acks <- struct{}{}
			}
		}()
		for range 20 {
			select {
			case <-acks:
			case <-time.After(20 * time.Second):
				t.Fatal("the router serves nothing")
			}
		}
		pass(rng, time.Second)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-read
		if err := child.Wait(); err == nil {
			t.Fatal("the router ended before it was killed")
		}
	}
	next := chaosOn(t, dir)
	next.acked = c.acked
	next.ramp(rng.IntN(101))
	next.check(t, -1)
	checkFolder(t, next.rig)
}

// checkFolder looks for what moves may have left: an object is in one folder, and its
// log is beside it only while it is open.
func checkFolder(t *testing.T, r *rig) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.dir, "objects", "*", counterID, "*"+objectSuffix))
	if err != nil {
		t.Fatal(err)
	}
	homes := map[string]string{}
	for _, path := range files {
		info, err := os.Lstat(path)
		if err != nil || info.IsDir() || filepath.Base(path) == schedule {
			continue // it may have moved on
		}
		name := filepath.Base(path)
		if other := homes[name]; other != "" {
			t.Errorf("the object is at %s and %s", other, path)
		}
		homes[name] = path
	}
	if owed, err := r.workers.objects.owed(counterID); err != nil || len(owed) > 0 {
		t.Errorf("owed are still %v, %v", owed, err)
	}
}

// A router that is closed and opened again in the middle of a ramp goes on with it.
func TestReopenedRoutersLoseNothing(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 40)
	c.tolerant.Store(true)
	for range rounds(t, 5) {
		stop := c.load(t, rng, 4, 4)
		c.ramp(rng.IntN(101))
		pass(rng, 300*time.Millisecond)
		c.Close()
		stop()
		c.Backends = c.open(here)
		c.ramp(rng.IntN(101))
		c.quiet(t)
	}
	c.check(t, -1)
	checkFolder(t, c.rig)
}

// While its share grows, whatever is killed, no object leaves a version that it has
// reached.
func TestRampsChangeEachObjectOnce(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 200)
	c.tolerant.Store(true)
	stop := c.load(t, rng, 6, 4)
	for share := 0; share <= 100; share += 10 {
		c.ramp(share)
		pass(rng, 400*time.Millisecond)
		if share == 30 || share == 70 {
			c.kill(t, rng.IntN(2))
		}
	}
	stop()
	until(t, "the end of the ramp", func() bool {
		left := 0
		if err := c.workers.objects.each(c.pair[0], counterID, func(string) bool { left++; return true }); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
	for i := range c.objects {
		c.callVia(t, c.backend(1), "add", strconv.Itoa(i), 0)
	}
	c.check(t, 1)
	checkFolder(t, c.rig)
}

// While the next version is not there yet, calls go on where the objects are.
func TestObjectsDoNotWaitForTheNextVersion(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 20)
	for i := range c.objects {
		c.call(t, rng, strconv.Itoa(i))
	}
	c.source.mu.Lock()
	c.source.away = true
	c.source.mu.Unlock()
	c.next()
	stop := c.callFirst(t, rng)
	c.ramp(50)
	for range 5 {
		c.ramp(rng.IntN(101))
		pass(rng, 500*time.Millisecond)
	}
	c.source.mu.Lock()
	c.source.away = false
	c.source.mu.Unlock()
	c.ramp(100)
	until(t, "the move", func() bool {
		found := 0
		if err := c.workers.objects.each(c.pair[1], counterID, func(string) bool { found++; return true }); err != nil {
			t.Fatal(err)
		}
		return found == c.objects
	})
	stop()
	c.check(t, -1)
}

// A version that hangs as it starts holds up nobody whose objects run elsewhere.
func TestCallsGoOnWhileTheNextVersionHangs(t *testing.T) {
	c := newChaos(t, 20)
	add := func() {
		for i := range c.objects {
			c.callVia(t, c.backend(0), "add", strconv.Itoa(i), 0)
		}
	}
	add()
	c.next()
	s := c.snapshot()
	c.source.mu.Lock() // no version can be fetched
	c.rampTo(100, s)
	called := make(chan struct{})
	go func() {
		defer close(called)
		add() // by a process that was not told before where they are
	}()
	select {
	case <-called:
	case <-time.After(c.workers.cfg.StartWait):
		t.Error("calls wait for the version")
	}
	c.source.mu.Unlock()
	<-called
	c.check(t, 1)
}

// A router finds its folder in use by another, and serves no objects; the other's go
// on.
func TestSecondRouterIsRefused(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 4)
	c.call(t, rng, "0")
	second := newRig(t, func(cfg *Config) {
		here(cfg)
		cfg.Workers.StartTimeout = time.Second
	})
	second.source.bundles, second.source.modules = c.source.bundles, c.source.modules
	second.workers.objects.dir = c.workers.objects.dir
	w := second.Update(second.snapshot(c.pair[0]))[c.pair[0]].(worker)
	second.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendFailed })
	if s := w.State(); !strings.Contains(s.Error, "for one router at a time") {
		t.Errorf("the second router says %+v", s)
	}
	if status, body, err := get(t, w, "/add?name=0&token=x"); err == nil && status == http.StatusOK {
		t.Errorf("it answered %s", body)
	}
	// Not with another version either.
	w = second.Update(second.snapshot(c.pair[1]))[c.pair[1]].(worker)
	second.waitState(w, func(s deploy.BackendState) bool { return s.Phase == deploy.BackendFailed })
	c.call(t, rng, "0")
	c.check(t, 0)
}

// A namespace that is deleted in the middle of a ramp goes whole.
func TestNamespaceIsDeletedWhileItMoves(t *testing.T) {
	rng := seeded(t)
	for range rounds(t, 3) {
		c := newChaos(t, 30)
		c.tolerant.Store(true)
		stop := c.load(t, rng, 4, 2)
		pass(rng, 500*time.Millisecond)
		c.ramp(100)
		pass(rng, 200*time.Millisecond)
		c.Update(&deploy.Snapshot{Revision: 1000, DeletedDurableObjects: []string{counterID}})
		until(t, "the removal", func() bool {
			left, err := filepath.Glob(filepath.Join(c.dir, "objects", "*", counterID))
			if err != nil {
				t.Fatal(err)
			}
			_, err = os.Lstat(filepath.Join(c.dir, "objects", counterID+".lock"))
			return len(left) == 0 && errors.Is(err, os.ErrNotExist)
		})
		stop()
		c.Close()
		left, err := filepath.Glob(filepath.Join(c.dir, "objects", "*", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("there are still %v, %v", left, err)
		}
	}
}
