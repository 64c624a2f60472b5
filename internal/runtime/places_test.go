package runtime

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// Nothing bounded the processes: each version that a preview host named got one.
func TestProcessesAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Workers.ProcessesMax = 1 })
	r.add(v1, fmt.Sprintf(echo, "v1"), nil)
	r.add(v2, fmt.Sprintf(echo, "v2"), nil)
	w := r.deploy(v1)
	pid := pidOf(t, w[v1])

	status, _, err := get(t, w[v2], "/")
	if err == nil || !strings.Contains(err.Error(), "this router's limit") {
		t.Errorf("a preview beyond the limit got %d, %v", status, err)
	}
	if got := mustGet(t, w[v1], "/"); got != "v1" || pidOf(t, w[v1]) != pid {
		t.Errorf("the deployed version answers %q", got)
	}

	// A version that is only kept warm gives way, long before its time.
	all := r.Update(r.snapshot(v2))
	deadline := time.After(time.Minute)
	for all[v2].(worker).State().Phase != deploy.BackendReady {
		select {
		case <-r.Changed():
		case <-deadline:
			t.Fatalf("the state is %+v", all[v2].(worker).State())
		}
	}
	if got := mustGet(t, all[v2], "/"); got != "v2" {
		t.Errorf("got %q", got)
	}
}
