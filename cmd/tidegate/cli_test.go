package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
)

// clientOf is a command line that talks to an API.
func clientOf(t *testing.T, api http.Handler, args ...string) *cobra.Command {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	t.Setenv("TIDEGATE_TOKEN", "token")
	root := &cobra.Command{Use: "tidegate", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(clientCommands()...)
	root.SetArgs(append(args, "--api", server.URL, "--account", "a1", "--data-dir", t.TempDir()))
	return root
}

// run returns the exit status of a command that talks to an API.
func run(t *testing.T, api http.Handler, args ...string) int {
	t.Helper()
	return app.Execute(clientOf(t, api, args...))
}

// output returns what such a command prints.
func output(t *testing.T, api http.Handler, args ...string) (string, error) {
	t.Helper()
	root := clientOf(t, api, args...)
	var out strings.Builder
	root.SetOut(&out)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// answers is an API that answers with the next of the results.
func answers(t *testing.T, results ...string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		if len(results) == 0 {
			t.Errorf("%s %s is one call too many", r.Method, r.URL)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"success": true, "result": %s}`, results[0])
		results = results[1:]
	}
}

// A variable of a shell that is not set is an empty argument: once it meant the whole account.
func TestEmptyArgumentsAreRefused(t *testing.T) {
	f := func(args ...string) {
		t.Helper()
		api := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%q asked %s %s", args, r.Method, r.URL) })
		if status := run(t, api, args...); status != 2 {
			t.Errorf("%q ended with %d, want 2", args, status)
		}
	}
	f("redaction", "delete", "")
	f("redaction", "delete", " ")
	f("redaction", "get", "")
	f("redaction", "set", "", "--built-in", "emails")
	f("data", "delete", "", "--yes")
	f("versions", "list", "")
	f("jobs", "delete", "")
	f("metrics", "compare", "shop", "v1", "")
}

// Numbers and times that nothing can have were taken for flags that were not given: a tail went on
// for ever, and a token that should have ended opened for ever.
func TestImpossibleNumbersAreRefused(t *testing.T) {
	f := func(args ...string) {
		t.Helper()
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t.Errorf("%q asked %s %s", args, r.Method, r.URL)
			w.WriteHeader(http.StatusInternalServerError)
		})
		if status := run(t, api, args...); status != 2 {
			t.Errorf("%q ended with %d, want 2", args, status)
		}
	}
	f("tail", "shop", "--for", "-5s")
	f("tail", "shop", "--for", "0s")
	f("jobs", "tail", "--for", "-1s")
	f("events", "list", "shop", "--limit", "-1")
	f("events", "list", "shop", "--limit", "0")
	f("events", "exceptions", "shop", "--limit", "-1")
	f("metrics", "overview", "--limit", "-1")
	f("metrics", "calls", "--limit", "-1")
	f("audit", "--page", "-1")
	f("data", "deletions", "--page", "0")
	f("metrics", "show", "shop", "--step", "-5m")
	f("metrics", "show", "shop", "--step", "1500ms")
	f("token", "create", "--name", "ci", "--scope", "scripts:edit", "--expires-in", "0s")
	f("token", "create", "--name", "ci", "--scope", "scripts:edit", "--expires-in", "-1h")
}

// Whoever leaves out an argument is told its name.
func TestMissingArgumentsAreNamed(t *testing.T) {
	root := &cobra.Command{Use: "tidegate"}
	root.AddCommand(upCommand(), receiveCommand(), verifyCommand(), secretsCommand(), configCommands(), backupCommand(), restoreCommand(), doctorCommand())
	root.AddCommand(clientCommands()...)
	name := regexp.MustCompile(` needs [A-Z]+( [A-Z]+)*: `)
	refused := 0
	var look func(*cobra.Command)
	look = func(command *cobra.Command) {
		if err := command.ValidateArgs(nil); err != nil {
			refused++
			if !name.MatchString(err.Error()) {
				t.Errorf("%s: %v", command.CommandPath(), err)
			}
		}
		for _, child := range command.Commands() {
			look(child)
		}
	}
	look(root)
	if refused < 20 {
		t.Errorf("%d commands need an argument", refused)
	}
}

// Whoever leaves out the group of a command is told the command, and not the group most like it:
// "deploy" was taken for "deployments", which only shows.
func TestCommandsThatWereMeant(t *testing.T) {
	root := &cobra.Command{Use: "tidegate"}
	onlyHolds(root)
	root.AddCommand(clientCommands()...)
	f := func(want string, args ...string) {
		t.Helper()
		err := root.ValidateArgs(args)
		if err == nil {
			t.Fatalf("%q is taken", args)
		}
		if _, meant, _ := strings.Cut(err.Error(), "; did you mean "); meant != want {
			t.Errorf("%q: %q, want %q", args, meant, want)
		}
	}
	f("versions deploy?", "deploy", "basket", "v1")
	f("versions upload?", "upload", "basket")
	f("versions?", "verions", "list")
	f("", "list") // which one?
	f("", "edit") // "audit" is two letters off
	f("jobs?", "job")
}

// Without an answer nobody knows that nothing happened.
func TestTailOfAnAPIThatDoesNotAnswer(t *testing.T) {
	f := func(name string, answers bool, want int) {
		t.Helper()
		asked := make(chan struct{}, 1)
		api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if answers {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
			}
			asked <- struct{}{}
			<-r.Context().Done()
		})
		if status := run(t, api, "tail", "shop", "--for", time.Second.String()); status != want || len(asked) != 1 {
			t.Errorf("%s: ended with %d, want %d; asked %d times", name, status, want, len(asked))
		}
	}
	f("an API that never answers", false, 1)
	f("one without events", true, 0)
}
