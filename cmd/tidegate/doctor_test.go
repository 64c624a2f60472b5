package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
)

// A planted fault makes the exit status, and both outputs say what to do.
func TestDoctorFindsAPlantedFault(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	free := []string{"--data-dir", t.TempDir(), "--gateway-addr", "127.0.0.1:0", "--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0"}
	taken := append([]string{"doctor", "--api-addr", l.Addr().String()}, free...)
	status, text := local(t, doctorCommand(), taken...)
	if status != 1 || !strings.Contains(text, l.Addr().String()+" is in use by") || !strings.Contains(text, "do: End that, or choose another address with --api-addr.") {
		t.Errorf("status %d, and\n%s", status, text)
	}
	status, text = local(t, doctorCommand(), append(taken, "--json")...)
	var list []app.Finding
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 1 {
		t.Fatalf("status %d, %v, and\n%s", status, err, text)
	}
	faults := 0
	for _, f := range list {
		if f.State == app.JudgedFault {
			faults++
		}
		if f.Sentence == "" || f.State != app.JudgedOK && f.Advice == "" {
			t.Errorf("it says nothing, or not what to do: %+v", f)
		}
	}
	if faults != 1 {
		t.Errorf("%d faults in\n%s", faults, text)
	}
	if status, text := local(t, doctorCommand(), append([]string{"doctor", "--api-addr", "127.0.0.1:0"}, free...)...); status != 0 {
		t.Errorf("without the fault: status %d, and\n%s", status, text)
	}
	if status, _ := local(t, doctorCommand(), "doctor", "--no-such-flag"); status != 2 {
		t.Errorf("a flag that is none: status %d, want 2", status)
	}
}

// A file that cannot be read is one finding among the others.
func TestDoctorGoesOnWithoutFilesThatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "ready.json"), 0o700); err != nil { // which nobody can read as a file, root neither
		t.Fatal(err)
	}
	status, text := local(t, doctorCommand(), "doctor", "--data-dir", dir, "--token-file", dir, "--api-addr", "127.0.0.1:0",
		"--gateway-addr", "127.0.0.1:0", "--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0", "--json")
	var list []app.Finding
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 1 {
		t.Fatalf("status %d, %v, and\n%s", status, err, text)
	}
	state := map[string]app.Judgement{}
	for _, f := range list {
		state[f.Check] = f.State
	}
	if state["token file"] != app.JudgedFault || state["ready file"] != app.JudgedFault || state["data folder"] != app.JudgedOK || state["database"] != app.JudgedOK {
		t.Errorf("it found\n%s", text)
	}
}

// A platform that was killed left its ready.json. Whoever answers at its addresses now is a stranger.
func TestDoctorDoesNotAskWhereAKilledPlatformWas(t *testing.T) {
	dir := t.TempDir()
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s was asked for", r.Method, r.URL)
	}))
	defer stranger.Close()
	text, err := json.Marshal(app.Ready{API: stranger.URL, ClickHouse: stranger.URL, Kafka: strings.TrimPrefix(stranger.URL, "http://"), TokenFile: filepath.Join(dir, "gone")})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ready.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	status, out := local(t, doctorCommand(), "doctor", "--data-dir", dir, "--api-addr", "127.0.0.1:0",
		"--gateway-addr", "127.0.0.1:0", "--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0", "--json")
	var list []app.Finding
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 {
		t.Fatalf("status %d, %v, and\n%s", status, err, out)
	}
	state := map[string]app.Judgement{}
	for _, f := range list {
		state[f.Check] = f.State
	}
	if state["running"] != app.JudgedWarning || state["kafka"] != app.JudgedUnknown || state["clickhouse"] != app.JudgedUnknown || state["api"] != app.JudgedUnknown {
		t.Errorf("it found\n%s", out)
	}
}

// commandInText ends where a quote or a sentence does; verbs of fmt stand for what is not known yet.
var commandInText = regexp.MustCompile("(?:^|[ (\"`])tidegate((?: [^\\s\";:,()`]+)+)")

// commandsIn the texts of a Go file.
func commandsIn(t *testing.T, path string) (commands []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, is := n.(*ast.BasicLit)
		if !is || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range commandInText.FindAllStringSubmatch(text, -1) {
			commands = append(commands, strings.TrimSuffix(strings.TrimSpace(match[1]), "."))
		}
		return true
	})
	return commands
}

// Each command that doctor advises is one, with those flags and as many arguments.
func TestDoctorAdvisesCommandsThatExist(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "internal", "app", "doctor*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, path := range append(files, "doctor.go") {
		if !strings.HasSuffix(path, "_test.go") {
			commands = append(commands, commandsIn(t, path)...)
		}
	}
	for _, known := range []string{"up", "token create", "restore --replace FILE", "jobs dead-letters list %d --account %s"} {
		if !slices.Contains(commands, known) {
			t.Errorf("%q is not found among %q: has the text changed, or does the test not see it?", known, commands)
		}
	}
	for _, text := range commands {
		root := &cobra.Command{Use: "tidegate", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(upCommand(), secretsCommand(), configCommands(), backupCommand(), restoreCommand(), doctorCommand())
		root.AddCommand(clientCommands()...)
		command, args, err := root.Find(strings.Fields(text))
		if err == nil {
			err = command.ParseFlags(args)
		}
		if err == nil {
			err = command.ValidateArgs(command.Flags().Args())
		}
		if err != nil || !command.Runnable() {
			t.Errorf("tidegate %s: runs %q, %v", text, command.CommandPath(), err)
		}
	}
}
