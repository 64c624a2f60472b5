package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/test/platform"
)

// transcript is what a process prints, readable while it runs.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *transcript) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// receive runs "tidegate receive" and returns its destination_conf and what it prints.
// Stop ends it as Ctrl-C does, which is no failure.
func receive(t *testing.T, args ...string) (conf string, out *transcript, stop func()) {
	t.Helper()
	out = &transcript{}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(bin, "tidegate"), append([]string{"receive", "--addr", "127.0.0.1:0"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, logOf(t, "tidegate receive")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("tidegate receive: %v", err)
		}
	}
	t.Cleanup(stop)
	eventually(t, 10*time.Second, "the receiver says where it is", func() (bool, error) {
		_, rest, _ := strings.Cut(out.String(), "\n")
		line, _, whole := strings.Cut(rest, "\n")
		conf = line
		return whole, nil
	})
	return conf, out, stop
}

// TestTryAJob: what "jobs test" prints of the newest events is what "tidegate receive"
// then gets of the same; meanwhile "jobs tail" shows events as they come.
func TestTryAJob(t *testing.T) {
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data"), Args: []string{"--logpush-interval", "1s"}})
	c := cli{dir: dir}
	conf, received, stop := receive(t, "--secret", "a secret of sixteen", "--lines", "0")
	if !strings.HasPrefix(conf, "http://127.0.0.1:") || !strings.Contains(conf, "hmac-secret=a+secret") {
		t.Fatalf("the receiver says %q", conf)
	}
	var j logjob.Job
	c.result(t, &j, "jobs", "create", "--name", "tried", "--destination", conf, "--record-template", "never {{.Outcome}}\n", "--enabled")
	id := fmt.Sprint(j.ID)
	c.run(t, "jobs", "update", id, "--record-template", "seen {{.ScriptName}} {{.Outcome}} {{.EventTimestampMs}}", "--record-prefix", "", "--record-suffix", "\n",
		"--filter", `{"where":{"key":"ScriptName","operator":"eq","value":"tried"}}`)
	if view := c.run(t, "jobs", "view", id); !strings.Contains(view, `"seen {{.ScriptName}}`) || strings.Contains(view, "sixteen") {
		t.Errorf("view shows\n%s", view)
	}

	serve(t, p, "tried", okHandler) // only now: the job gets all of its events

	tailed := &transcript{}
	tail := exec.CommandContext(t.Context(), filepath.Join(bin, "tidegate"), "jobs", "tail", id)
	tail.Dir, tail.Stdout, tail.Stderr = dir, tailed, logOf(t, "tidegate jobs tail")
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "jobs tail shows an event", func() (bool, error) {
		_, _, err := p.Visit(t.Context(), http.DefaultClient, "tried", nil)
		return strings.Contains(tailed.String(), `"ScriptName":"tried"`), err
	})
	if err := tail.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := tail.Wait(); err != nil {
		t.Errorf("jobs tail ended with %v", err)
	}

	stdout, stderr, status := c.exec(t, filepath.Join(bin, "tidegate"), "jobs", "test", id)
	if status != 0 || !strings.HasPrefix(stdout, `seen "tried" "ok" `) || !strings.Contains(stderr, "would be sent, in ") {
		t.Fatalf("jobs test: status %d\n%s\n%s", status, stdout, stderr)
	}
	eventually(t, time.Minute, "the receiver gets what jobs test printed", func() (bool, error) {
		for line := range strings.Lines(stdout) {
			if !strings.Contains(received.String(), line) {
				return false, nil
			}
		}
		return true, nil
	})
	write(t, filepath.Join(dir, "samples.json"), `[{"ScriptName":"tried","Outcome":"a"},{"ScriptName":"other"},{"ScriptName":"tried","Outcome":"b"}]`)
	stdout, stderr, _ = c.exec(t, filepath.Join(bin, "tidegate"), "jobs", "test", id, "--events", "samples.json", "--record-template", "<{{.Outcome}}>")
	if stdout != "<\"a\">\n<\"b\">\n" || !strings.Contains(stderr, "1 left out by the filter") {
		t.Errorf("of samples it printed %q and %q", stdout, stderr)
	}
	c.run(t, "jobs", "disable", id)
	c.result(t, &j, "jobs", "view", id)
	if j.Enabled || *j.OutputOptions.RecordTemplate != "seen {{.ScriptName}} {{.Outcome}} {{.EventTimestampMs}}" {
		t.Errorf("after it was disabled the job is %+v", j)
	}
	c.fail(t, 2, "nothing to change", "jobs", "update", id)
	c.run(t, "jobs", "delete", id)
	c.fail(t, 1, "does not exist", "jobs", "view", id)
	stop()
	if text := received.String(); !strings.Contains(text, "signature ok") || strings.Contains(text, "signature bad") || strings.Contains(text, `seen "other"`) || !strings.Contains(text, "batches taken") {
		t.Errorf("the receiver showed\n%s", text)
	}
}
