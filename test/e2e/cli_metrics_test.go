package e2e

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/schema"
	"tidegate/test/platform"
)

// metricsCommands ask what two versions of the script board did, one of which answers 500.
func metricsCommands(t *testing.T, c cli, p *platform.Platform) {
	failing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	upload := func(origin, tag string) (id string) {
		t.Helper()
		var version struct{ ID string }
		c.result(t, &version, "versions", "upload", "board", "--origin", origin, "--tag", tag)
		return version.ID
	}
	good, bad := upload(answering(t, "fine"), "good"), upload(serving(t, failing), "bad")
	c.run(t, "versions", "deploy", "board", "good@100", "bad@0", "-y")
	visit := func(version string) (ray string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Ready.Gateway+"/chess", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = p.Host("board")
		req.Header.Set("Cloudflare-Workers-Version-Overrides", `board="`+version+`"`)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if (resp.StatusCode == http.StatusInternalServerError) != (version == bad) {
			return "" // it is not deployed there yet
		}
		return resp.Header.Get("Cf-Ray")
	}

	watched := c.start(t, "tail", "board", "--failed", "--version", "bad", "--json")
	var ray string
	eventually(t, time.Minute, "tail prints a failure", func() (bool, error) {
		visit(good)
		ray = visit(bad)
		select {
		case line := <-watched:
			var e schema.TraceEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.ScriptVersion.ID != bad {
				t.Errorf("tail prints %s, %v", line, err)
			}
			return true, nil
		case <-time.After(200 * time.Millisecond):
			return false, nil
		}
	})

	eventually(t, time.Minute, "the request is stored", func() (bool, error) {
		_, _, status := c.exec(t, filepath.Join(bin, "tidegate"), "events", "view", ray)
		return status == 0, nil
	})
	has := func(text string, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%q is not in\n%s", word, text)
			}
		}
	}
	has(c.run(t, "events", "view", ray), "bad ("+bad[:8]+")", "GET http://", "/chess", "Status     500", "Ray        "+ray)
	list := c.run(t, "events", "list", "board", "--failed", "--limit", "1")
	has(list, ray, "500", "There may be more: --since ")
	if strings.Contains(list, "good") {
		t.Errorf("failures have what did not fail:\n%s", list)
	}
	_, more, _ := strings.Cut(list, "There may be more: ")
	c.run(t, append([]string{"events", "list", "board", "--failed"}, strings.Fields(more)...)...)
	var page struct{ Events []schema.TraceEvent }
	c.result(t, &page, "events", "list", "board", "--version", "good", "--failed=false", "--method", "GET", "--status", "200-299", "--text", "CHESS")
	if len(page.Events) == 0 || page.Events[0].ScriptVersion.ID != good {
		t.Errorf("the events of the good version are %+v", page.Events)
	}
	has(c.run(t, "events", "exceptions", "board", "--new-in", "bad", "--compared-to", "good"), "REQUESTS")
	has(c.run(t, "metrics", "show", "board", "--since", "30m"), "good ("+good[:8]+")", "bad ("+bad[:8]+")", "100%", "0%")
	has(c.run(t, "metrics", "overview"), "SCRIPT", "board", "cart")
	has(c.run(t, "metrics", "compare", "board", "good", "bad"), "Nothing can be compared") // none was drawn
	has(c.run(t, "metrics", "compare", "board", "good", bad[:8], "--count", "all", "--confidence", "0.9"), "Difference  100% (", "Confidence  90%", "Counted     all requests")
	var compared struct{ Count string }
	if c.result(t, &compared, "metrics", "compare", "board", good, bad); compared.Count != "assigned" {
		t.Errorf("compared are %q requests", compared.Count)
	}
}

// start runs a command in the background until the test ends, and returns its lines.
func (c cli) start(t *testing.T, args ...string) <-chan string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "tidegate"), args...)
	cmd.Dir = c.dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			default: // nobody looks any more
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait() // it was killed
	})
	return lines
}
