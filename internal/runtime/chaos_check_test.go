package runtime

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// logs waits until every alarm has rung, and returns what the objects wrote.
func (c *chaos) logs(t *testing.T) map[string][]entry {
	t.Helper()
	all := map[string][]entry{}
	for i := range c.objects {
		name := strconv.Itoa(i)
		all[name] = c.rung(t, name)
	}
	return all
}

// rung waits until an object's alarm has rung, if it set one, and returns what it wrote.
func (c *chaos) rung(t *testing.T, name string) (list []entry) {
	t.Helper()
	var problem string
	ok := poll(20*time.Second, func() bool {
		status, body, err := get(t, c.backend(0), "/log?name="+name)
		list = nil
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &list) != nil {
			problem = fmt.Sprintf("its log: %d %q, %v", status, body, err)
			return false
		}
		problem = "its last alarm did not ring"
		return !awaits(list)
	})
	if !ok {
		t.Errorf("object %s: %s; it wrote last %+v", name, problem, list[max(0, len(list)-5):])
	}
	return list
}

// quiet waits until every alarm has rung: none may be lost, and hidden by a later one.
func (c *chaos) quiet(t *testing.T) {
	t.Helper()
	c.logs(t)
}

func poll(d time.Duration, ok func() bool) bool {
	deadline := time.After(d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// awaits reports whether an alarm was set after the last that rang, or for later.
func awaits(list []entry) bool {
	var at int64
	for _, e := range list {
		switch {
		case e.Kind == "arm":
			at = e.At
		case e.Kind == "ring" && e.At >= at:
			at = 0
		}
	}
	return at != 0
}

// check holds the logs against what was acknowledged. No object may have changed its
// version more often than changes, unless that is negative.
func (c *chaos) check(t *testing.T, changes int) {
	t.Helper()
	writes, moves := 0, 0
	for name, list := range c.logs(t) {
		there := map[string]entry{}
		ended := map[string]bool{} // lives
		changed := 0
		for i, e := range list {
			if e.N != i+1 {
				t.Errorf("object %s: write %d came after %d others", name, e.N, i)
			}
			if _, twice := there[e.Token]; twice && e.Token != "" {
				t.Errorf("object %s: %+v was there before", name, e)
			}
			there[e.Token] = e
			if i == 0 {
				continue
			}
			before := list[i-1]
			if before.Version != e.Version {
				changed++
			}
			switch {
			case before.Life != e.Life:
				ended[before.Life] = true
			case e.Seq <= before.Seq:
				t.Errorf("object %s: %+v came after %+v", name, e, before)
			}
			if ended[e.Life] {
				t.Errorf("object %s: %+v is of a life that had ended: two wrote at once", name, e)
			}
		}
		if changes >= 0 && changed > changes {
			t.Errorf("object %s changed its version %d times", name, changed)
		}
		for token, e := range c.acked[name] {
			if got, ok := there[token]; !ok || got.N != e.N || got.Version != e.Version {
				t.Errorf("object %s acknowledged %+v, its log has %+v", name, e, got)
			}
		}
		writes, moves = writes+len(c.acked[name]), moves+changed
	}
	t.Logf("%d acknowledged writes, %d moves", writes, moves)
	if writes == 0 {
		t.Error("nothing was acknowledged")
	}
}
