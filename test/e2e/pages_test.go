package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/app"
	"tidegate/internal/logjob"
	"tidegate/internal/store"
	"tidegate/test/docs/commands"
	"tidegate/test/platform"
)

// operator does what pages say where they cannot be copied as they stand: there are names in capitals in
// their commands, which stand for the operator's own.
type operator struct {
	cli
	p       *platform.Platform
	job     string
	letters int // made so far
}

// TestCommandsOfOperators runs what runbooks and the pages about jobs, rollbacks and upgrades tell operators to run.
func TestCommandsOfOperators(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := &operator{cli: cli{dir: dir}, p: start(t, platform.Options{DataDir: filepath.Join(dir, "data")})}
	for _, tag := range []string{"v1", "v2"} {
		o.run(t, "versions", "upload", "shop", "--origin", answering(t, tag), "--tag", tag)
		o.run(t, "versions", "deploy", "shop", tag, "-y")
	}
	o.run(t, "policy", "set", "shop", "--max-failure-ratio", "2")
	var made struct{ ID int64 }
	o.result(t, &made, "jobs", "create", "--name", "errors", "--destination", serving(t, http.HandlerFunc(okHandler)), "--enabled")
	o.job = fmt.Sprint(made.ID)

	runbooks, err := filepath.Glob(filepath.Join("..", "..", "docs", "operations", "runbooks", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, page := range append(runbooks, "../../docs/logpush.md", "../../docs/delivery.md", "../../docs/rollback.md", "../../docs/operations/upgrades.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands.In(string(text)) {
			if name, args := o.own(t, c); name != "" {
				ran++
				o.follow(t, fmt.Sprintf("%s:%d", filepath.Base(page), c.Line), name, args)
			}
		}
	}
	if ran < 40 {
		t.Errorf("only %d commands were run", ran)
	}
}

var capitals = regexp.MustCompile(`^\[?[A-Z]+\]?$`)

// own is the command with the operator's own names; without a name it is one that is not run: it is of other
// programs, or a sentence only names it.
func (o *operator) own(t *testing.T, c commands.Command) (name string, args []string) {
	t.Helper()
	whole := slices.ContainsFunc(c.Words, func(w string) bool { return strings.HasPrefix(w, "--") || capitals.MatchString(w) })
	switch program := c.Program(); {
	case c.Inline && !whole || slices.Contains(c.Words, "..."):
		return "", nil
	case program == "tidegate" && c.Words[1] != "up":
		name = filepath.Join(bin, program)
	case program == "curl" && strings.Contains(strings.Join(c.Words, " "), "CONTROL"):
		name, args = program, []string{"-S", "--fail"}
	default:
		return "", nil
	}
	if c.Words[1] == "rollback" { // the one before has left nothing to roll back
		o.run(t, "versions", "deploy", "shop", "v2", "-y")
	}
	places := strings.NewReplacer("https://CONTROL", o.p.Ready.API, "$TOKEN", o.p.Token, "ACCOUNT", o.p.AccountID, "SCRIPT", "shop")
	for i, word := range c.Words[1:] {
		switch word = strings.Trim(word, "[]"); word {
		case "JOB":
			word = o.job
		case "LETTER":
			word = o.letter(t)
		case "URL":
			word = serving(t, http.HandlerFunc(okHandler))
		case "FILE":
			word = filepath.Join(t.TempDir(), "file")
		case "TIME":
			word = "1h"
			if c.Words[i] == "--to" {
				word = "now"
			}
		default:
			word = places.Replace(word)
		}
		args = append(args, word)
	}
	return name, args
}

// follow must end well at last: events may still be on their way.
func (o *operator) follow(t *testing.T, place, name string, args []string) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("%s: %s %q is done", place, filepath.Base(name), args), func() (bool, error) {
		stdout, stderr, status := o.exec(t, name, args...)
		if status == 1 || strings.Contains(stderr, "--help") { // nothing that passes
			t.Errorf("%s: %s %q: status %d\n%s\n%s", place, filepath.Base(name), args, status, stdout, stderr)
			return true, nil
		}
		if status != 0 {
			return false, fmt.Errorf("status %d: %s", status, stderr)
		}
		return true, nil
	})
}

// letter makes a dead letter of the job, and returns its id.
func (o *operator) letter(t *testing.T) string {
	t.Helper()
	keys, err := app.ReadKeys(filepath.Join(o.p.DataDir, "secrets-key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(o.p.DataDir, "control.db"), store.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	var job int64
	if _, err := fmt.Sscan(o.job, &job); err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	zipped := gzip.NewWriter(&body)
	if _, err := zipped.Write([]byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	first := int64(o.letters)
	o.letters++
	if err := db.AddDeadLetter(context.WithoutCancel(t.Context()), logjob.DeadLetter{JobID: job, BatchID: fmt.Sprint("batch-", first), BeginOffset: first, EndOffset: first + 1,
		Records: 1, From: at, Until: at.Add(time.Second), Status: 400, Reason: "no", Body: body.Bytes()}, logjob.LetterLimits{}); err != nil {
		t.Fatal(err)
	}
	var list []struct{ ID string }
	o.result(t, &list, "jobs", "dead-letters", "list", o.job)
	return list[len(list)-1].ID
}

// TestBackupOfTheDocumentation takes a backup and rehearses a restore, as docs/operations/backup.md says: the
// copy has what was deployed, and its job does not deliver.
func TestBackupOfTheDocumentation(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations", "backup.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, block := range commands.Blocks(string(page)) {
		if block.Mark == "sh" {
			blocks = append(blocks, block.Text)
		}
	}
	if len(blocks) != 2 {
		t.Fatalf("the page has %d sh blocks, want 2", len(blocks))
	}
	dir := t.TempDir()
	c := cli{dir: dir}
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data")})
	serve(t, p, "shop", okHandler)
	c.run(t, "jobs", "create", "--name", "errors", "--destination", serving(t, http.HandlerFunc(okHandler)), "--enabled")

	prepared, started, found := strings.Cut(blocks[1], "tidegate up --data-dir rehearsal ")
	if !found {
		t.Fatalf("the rehearsal does not end with its start: %s", blocks[1])
	}
	for _, script := range []string{blocks[0], prepared} {
		if out, stderr, status := c.exec(t, "bash", "-euo", "pipefail", "-c", script); status != 0 {
			t.Fatalf("status %d\n%s\n%s\nafter\n%s", status, out, stderr, script)
		}
	}
	rehearsal := start(t, platform.Options{DataDir: filepath.Join(dir, "rehearsal"), Args: strings.Fields(started)})
	if list, err := rehearsal.Deployments(t.Context(), "shop"); err != nil || len(list) != 1 {
		t.Errorf("the copy has the deployments %v, %v", list, err)
	}
	enabled := map[string]bool{}
	for _, folder := range []string{"data", "rehearsal"} {
		var jobs []struct{ Enabled bool }
		c.result(t, &jobs, "jobs", "list", "--data-dir", folder)
		enabled[folder] = len(jobs) == 1 && jobs[0].Enabled
	}
	if !enabled["data"] || enabled["rehearsal"] {
		t.Errorf("whether the job is enabled: %v", enabled)
	}
}
