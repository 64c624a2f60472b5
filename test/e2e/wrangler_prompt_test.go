package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// TestWranglerPrompts answers the questions of `wrangler versions deploy` at a
// terminal.
func TestWranglerPrompts(t *testing.T) {
	p := start(t, platform.Options{})
	for _, w := range wranglers {
		t.Run(w.version, func(t *testing.T) {
			t.Parallel()
			s := &release{project: newProject(t, w, p, record(t, p), "asked"+w.suffix())}
			s.configure(t, map[string]any{"version_metadata": map[string]string{"binding": "VERSION"}})
			s.write(t, "src/index.js", named("v1"))
			s.v1 = versionID(t, s.run(t, "deploy"))
			s.write(t, "src/index.js", named("v2"))
			s.v2 = versionID(t, s.run(t, "versions", "upload", "--tag", "two"))

			terminal := s.atTerminal(t, "versions", "deploy")
			terminal.expect("Which version(s) do you want to deploy?")
			terminal.press(" ", arrowDown, " ", "\r") // both; the newest is first
			terminal.expect("What percentage of traffic should Worker Version 1")
			terminal.press("2", "0", "\r")
			terminal.expect("What percentage of traffic should Worker Version 2")
			terminal.press("8", "0", "\r")
			terminal.expect("Add a deployment message")
			terminal.press("by hand", "\r")
			terminal.expect("Are you sure you want to proceed?", "deploy")
			terminal.press("\r")
			terminal.ends()
			status := decode[deploy.Deployment](t, s.run(t, "deployments", "status", "--json"))
			want := map[string]deploy.Percentage{s.v2: 20_000, s.v1: 80_000}
			if len(status.Versions) != 2 || status.Annotations.Message != "by hand" {
				t.Errorf("the status is %+v", status)
			}
			for _, split := range status.Versions {
				if split.Percentage != want[split.VersionID] {
					t.Errorf("version %s has %s", split.VersionID, split.Percentage)
				}
			}
		})
	}
}

// terminal is wrangler at a pseudo terminal.
type terminal struct {
	t       *testing.T
	file    *os.File
	command *exec.Cmd
	done    chan struct{} // closed when everything was read

	mu     sync.Mutex
	screen strings.Builder // what was written, without control sequences
	read   int             // how much of it expect has passed
}

// control matches what moves the cursor, colours, and asks the terminal.
var control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\x1b[78=>]|\r")

// atTerminal starts wrangler as a person would, without CI.
func (p *project) atTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandDeadline)
	t.Cleanup(cancel)
	command := p.command(ctx, t, args...)
	command.Env = append(p.env, "TERM=xterm")
	file, err := pty.StartWithSize(command, &pty.Winsize{Rows: 50, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, file: file, command: command, done: make(chan struct{})}
	go term.watch()
	t.Cleanup(func() {
		cancel()
		<-term.done
		_ = file.Close() // its other side is closed
	})
	return term
}

func (term *terminal) watch() {
	defer close(term.done)
	buffer := make([]byte, 4096)
	for {
		n, err := term.file.Read(buffer)
		term.mu.Lock()
		term.screen.Write(buffer[:n])
		term.mu.Unlock()
		if err != nil {
			return // the other side is closed: wrangler has ended
		}
	}
}

// expect waits until one of the texts appears after what was expected before.
func (term *terminal) expect(texts ...string) {
	term.t.Helper()
	eventually(term.t, commandDeadline, fmt.Sprintf("wrangler asks %q", texts), func() (bool, error) {
		term.mu.Lock()
		defer term.mu.Unlock()
		screen := control.ReplaceAllString(term.screen.String(), "")
		for _, text := range texts {
			if i := strings.Index(screen[min(term.read, len(screen)):], text); i >= 0 {
				term.read += i + len(text)
				return true, nil
			}
		}
		return false, fmt.Errorf("it shows:\n%s", screen)
	})
}

// arrowDown is the key as a terminal sends it.
const arrowDown = "\x1b[B"

// press types keys, each in a write of its own: a prompt reads keys, not lines.
func (term *terminal) press(keys ...string) {
	term.t.Helper()
	for _, key := range keys {
		if _, err := term.file.WriteString(key); err != nil {
			term.t.Fatal(err)
		}
	}
}

// ends waits for a successful end.
func (term *terminal) ends() {
	term.t.Helper()
	<-term.done
	if err := term.command.Wait(); err != nil {
		term.t.Errorf("wrangler: %v\n%s", err, control.ReplaceAllString(term.screen.String(), ""))
	}
}
