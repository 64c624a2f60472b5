package e2e

import (
	"context"
	"fmt"
	"maps"
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

// TestWranglerPrompts answers wrangler's questions at a terminal: those of
// `versions deploy`, and those of `rollback`, which has one more when a secret was
// changed since.
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
			for _, step := range []struct {
				name string
				play func(*testing.T)
			}{
				{"versions deploy", s.deployByHand},
				{"rollback", s.rollbackByHand},
				{"rollback across a changed secret", s.rollbackSecretByHand},
			} {
				if !t.Run(step.name, step.play) {
					t.FailNow() // later steps stand on earlier ones
				}
			}
		})
	}
}

func (s *release) deployByHand(t *testing.T) {
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
	terminal.expect(fmt.Sprintf("Deployed %s version %s at 20%% and version %s at 80%%", s.name, s.v2, s.v1))
	terminal.ends()
	s.isDeployed(t, "by hand", map[string]deploy.Percentage{s.v2: 20_000, s.v1: 80_000})
}

// rollbackByHand goes back to the version that had everything before.
func (s *release) rollbackByHand(t *testing.T) {
	terminal := s.atTerminal(t, "rollback")
	terminal.rollback(s.v1, "two was bad")
	terminal.expect("Current Version ID: " + s.v1)
	terminal.ends()
	s.isDeployed(t, "two was bad", map[string]deploy.Percentage{s.v1: deploy.Full})
	s.answers(t, "v1")
}

// rollbackSecretByHand says no to losing a secret, then yes.
func (s *release) rollbackSecretByHand(t *testing.T) {
	withSecret := uuid.FindString(s.runWith(t, "text", "versions", "secret", "put", "SECRET"))
	s.run(t, "versions", "deploy", withSecret+"@100", "-y", "--message", "with it")
	question := "The following secrets have changed since version " + s.v1

	terminal := s.atTerminal(t, "rollback", s.v1)
	terminal.rollback(s.v1, "never mind it")
	terminal.expect(question)
	terminal.expect("* SECRET")
	terminal.press("n")
	terminal.expect("Aborting rollback")
	terminal.ends()
	s.isDeployed(t, "with it", map[string]deploy.Percentage{withSecret: deploy.Full})

	terminal = s.atTerminal(t, "rollback", s.v1)
	terminal.rollback(s.v1, "never mind it")
	terminal.expect(question)
	terminal.expect("* SECRET")
	terminal.press("y")
	terminal.expect("Current Version ID: " + s.v1)
	terminal.ends()
	s.isDeployed(t, "never mind it", map[string]deploy.Percentage{s.v1: deploy.Full})
}

// isDeployed compares the deployment in force, as the API has it.
func (s *release) isDeployed(t *testing.T, message string, want map[string]deploy.Percentage) {
	t.Helper()
	deployments, err := s.platform.Deployments(t.Context(), s.name)
	if err != nil {
		t.Fatal(err)
	}
	current := deployments[0]
	got := map[string]deploy.Percentage{}
	for _, split := range current.Versions {
		got[split.VersionID] = split.Percentage
	}
	if !maps.Equal(got, want) || current.Annotations.Message != message {
		t.Errorf("the deployment is %+v, not %v with the message %q", current, want, message)
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

// rollback answers what `wrangler rollback` asks of everybody.
func (term *terminal) rollback(versionID, message string) {
	term.t.Helper()
	term.expect("Please provide an optional message for this rollback")
	term.press(message, "\r")
	term.expect("You are about to rollback to Worker Version " + versionID)
	term.expect("Are you sure you want to deploy this Worker Version to 100% of traffic?")
	term.press("y")
}

// ends waits for a successful end.
func (term *terminal) ends() {
	term.t.Helper()
	<-term.done
	if err := term.command.Wait(); err != nil {
		term.t.Errorf("wrangler: %v\n%s", err, control.ReplaceAllString(term.screen.String(), ""))
	}
}
