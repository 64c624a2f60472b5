package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
	"tidegate/internal/deploy"
	"tidegate/test/docs/commands"
)

var root = filepath.Join("..", "..")

// pages are the documents that tell readers what to run, by their paths from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	add := func(path string, _ fs.DirEntry, err error) error {
		if end := filepath.Ext(path); err != nil || end != ".md" && end != ".txt" {
			return err
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		texts[path] = string(text)
		return err
	}
	err := errors.Join(add("README.md", nil, nil), add("CONTRIBUTING.md", nil, nil),
		fs.WalkDir(os.DirFS(root), "docs", add), fs.WalkDir(os.DirFS(root), "deploy", add))
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// Every command that a page tells a reader to run is there, with its flags and as many arguments, also
// where no test can run it, because it installs something or names somebody's hosts.
func TestPagesTellOfCommandsThatThereAre(t *testing.T) {
	judge := newJudge(t)
	found := 0
	for path, text := range pages(t) {
		if filepath.Ext(path) == ".txt" {
			text = asBlocks(text)
		}
		for _, c := range commands.In(text) {
			judged, err := judge.command(c)
			if err != nil {
				t.Errorf("%s:%d: %s: %v", path, c.Line, strings.Join(c.Words, " "), err)
			}
			if judged {
				found++
			}
		}
	}
	if found < 400 {
		t.Errorf("only %d commands were found", found)
	}
}

// What no test runs is an example, and readers are told.
func TestPagesSayWhichBlocksAreExamples(t *testing.T) {
	judge := newJudge(t)
	for path, text := range pages(t) {
		if strings.Contains(path, "/runbooks/") { // whose README says so for all of them
			continue
		}
		for _, block := range commands.Blocks(text) {
			if block.Mark != "" || strings.HasPrefix(block.Text, "$ ") { // or it shows what a command answers
				continue
			}
			for _, c := range commands.In("```\n" + block.Text + "```\n") {
				if ours, _ := judge.command(c); ours && !strings.Contains(text, "are examples: ") && !strings.Contains(text, "is an example: ") {
					t.Errorf("%s:%d: the block is not marked sh, and nothing says that it is an example", path, block.Line)
					break
				}
			}
		}
	}
}

// The examples of --help are held to the same.
func TestExamplesOfHelpAreOfCommandsThatThereAre(t *testing.T) {
	judge := newJudge(t)
	var look func(*cobra.Command)
	look = func(command *cobra.Command) {
		for _, c := range commands.In("```\n" + command.Example + "\n```\n") {
			if _, err := judge.command(c); err != nil {
				t.Errorf("%s: %s: %v", command.CommandPath(), strings.Join(c.Words, " "), err)
			}
		}
		for _, child := range command.Commands() {
			look(child)
		}
	}
	look(rootCommand())
}

// asBlocks reads a template of Helm's notes as a page: what is indented in it are commands.
func asBlocks(text string) string {
	text = regexp.MustCompile(`\{\{.*?\}\}`).ReplaceAllString(text, "X")
	return regexp.MustCompile(`(?m)(?:^  .*\n)+`).ReplaceAllString(text, "```\n$0```\n")
}

// A variable that a page names is one that a process or a command reads.
func TestPagesNameVariablesThatThereAre(t *testing.T) {
	variable := regexp.MustCompile(`\bTIDEGATE_[A-Z0-9_]*[A-Z0-9]\b`)
	tests := testsCode(t)
	for path, text := range pages(t) {
		for _, name := range variable.FindAllString(text, -1) {
			if err := unknownVariable(t, name); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			if strings.HasPrefix(name, "TIDEGATE_TEST_") && !strings.Contains(tests, name) { // which a process lets pass
				t.Errorf("%s: no test reads %s", path, name)
			}
		}
	}
	if unknownVariable(t, "TIDEGATE_GATEWAY_ADR") == nil {
		t.Error("a variable that nobody reads is taken for known")
	}
}

func testsCode(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	for _, folder := range []string{"internal", "pipeline", "test"} {
		err := fs.WalkDir(os.DirFS(root), folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == "node_modules" {
				return fs.SkipDir
			}
			if end := filepath.Ext(path); err != nil || end != ".go" && end != ".sh" {
				return err
			}
			text, err := os.ReadFile(filepath.Join(root, path))
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return code.String()
}

func unknownVariable(t *testing.T, name string) (err error) {
	t.Run(name, func(t *testing.T) {
		t.Setenv(name, "x")
		err = app.FromEnvironment(pflag.NewFlagSet("", pflag.ContinueOnError))
	})
	return err
}

// A block that begins with the name of a process' file, such as # router.yaml, can be read by the process.
func TestPagesShowSettingsThatThereAre(t *testing.T) {
	found := 0
	for path, text := range pages(t) {
		for _, block := range commands.Blocks(text) {
			if block.Mark != "yaml" {
				continue
			}
			title, _, _ := strings.Cut(strings.TrimPrefix(block.Text, "# "), "\n")
			role := strings.TrimSuffix(title, ".yaml")
			if role == "tidegate" {
				role = "up"
			}
			if processes[role] == nil {
				continue
			}
			found++
			if err := settingsFault(t, role, block.Text); err != nil {
				t.Errorf("%s:%d: %v", path, block.Line, err)
			}
		}
	}
	if found < 2 {
		t.Errorf("%d files with settings were found", found)
	}
	if settingsFault(t, "router", "kafka-tsl: true\n") == nil {
		t.Error("a key that there is not is taken for known")
	}
}

func settingsFault(t *testing.T, role, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), role+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := processes[role]()
	if err := s.flags.Set("config", file); err != nil {
		t.Fatal(err)
	}
	return app.ReadSettings(s.flags)
}

// judge knows what can be run.
type judge struct {
	targets []string // of make
	folder  string   // in which no platform runs
	api     string   // which answers everything with a policy
	ctx     context.Context
}

func newJudge(t *testing.T) judge {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	policy := deploy.DefaultPolicy() // which others change
	policy.Enabled = true
	answer, err := json.Marshal(map[string]any{"success": true, "result": policy})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
	t.Cleanup(api.Close)
	j := judge{folder: t.TempDir(), api: api.URL, ctx: t.Context()}
	for _, match := range regexp.MustCompile(`(?m)^([a-z0-9-]+):`).FindAllStringSubmatch(string(makefile), -1) {
		j.targets = append(j.targets, match[1])
	}
	t.Setenv("TIDEGATE_TOKEN", "nobodys")
	return j
}

// command says what is wrong with one, if it is ours to know.
func (j judge) command(c commands.Command) (judged bool, err error) {
	args := typedArgs(c.Words[1:])
	switch program := c.Program(); program {
	case "make":
		for _, arg := range args {
			if !strings.Contains(arg, "=") && !slices.Contains(j.targets, arg) {
				return true, fmt.Errorf("the Makefile has no target %s", arg)
			}
		}
		return true, nil
	case "tidegate":
		return true, j.ofTidegate(args, c.Inline)
	case "router", "ingest", "jobs-api":
		return true, ofProcess(program, args)
	default:
		return false, nil
	}
}

// typedArgs are arguments as a reader would type them: those in brackets are there, and "..." is what was said before.
func typedArgs(args []string) []string {
	var list []string
	for _, arg := range args {
		if arg = strings.TrimSuffix(strings.TrimPrefix(arg, "["), "]"); arg != "..." {
			list = append(list, arg)
		}
	}
	return list
}

// ofProcess parses the flags of a process, and looks at the values of those that are given.
func ofProcess(role string, args []string) error {
	if slices.Contains(args, "--help") || slices.Contains(args, "--version") {
		return nil
	}
	s := processes[role]()
	s.flags.SetOutput(io.Discard)
	if err := s.flags.Parse(args); err != nil {
		return err
	}
	if rest := s.flags.Args(); len(rest) > 0 {
		return fmt.Errorf("%q is no flag", rest[0])
	}
	var faults []error
	for _, err := range app.CheckSettings(s.flags, s.validate) {
		if !errors.Is(err, fs.ErrNotExist) && ofGiven(s.flags, err) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

var flagName = regexp.MustCompile(`--([a-z][a-z0-9-]*)`)

// ofGiven tells faults of what is written from those of what is left out, which need not stand in a page.
func ofGiven(flags *pflag.FlagSet, fault error) bool {
	for _, match := range flagName.FindAllStringSubmatch(fault.Error(), -1) {
		if flag := flags.Lookup(match[1]); flag == nil || !flag.Changed {
			return false
		}
	}
	return true
}

// misuse marks an error that a reader would have to mend on the command line.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// ofTidegate finds the command and parses what follows. One that speaks to the API is run as well, because
// it looks at the values that it is given by itself; what it says of the answers means nothing.
func (j judge) ofTidegate(args []string, inline bool) error {
	root := rootCommand()
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	root.InitDefaultVersionFlag()
	command, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	command.InitDefaultHelpFlag()
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	given := command.Flags().Args()
	if flag := command.Flags().Lookup("help"); flag.Changed || slices.Contains(args, "--version") {
		return nil
	}
	if command.Name() == "up" {
		return ofProcess("up", rest)
	}
	if dash := command.ArgsLenAtDash(); dash >= 0 {
		if err := ofProcess(command.Flag("role").Value.String(), given[dash:]); err != nil {
			return err
		}
		given = given[:dash]
	}
	err = command.ValidateArgs(given)
	for n := 0; err != nil && inline && !command.HasSubCommands() && n < 3; n++ { // a sentence may leave them out
		given = append(given, "X")
		err = command.ValidateArgs(given)
	}
	if err != nil || inline || command.InheritedFlags().Lookup("api") == nil {
		return err
	}
	return j.run(args)
}

// placeholders are values of which no page knows one that has the form.
var placeholders = map[string]string{"JOB": "1", "$job": "1", "TIME": "1h"}

func (j judge) run(args []string) error {
	root := rootCommand()
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	args = slices.Clone(args)
	for i, arg := range args {
		if value := placeholders[arg]; value != "" {
			args[i] = value
		}
	}
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	root.SetArgs(append(args, "--data-dir", j.folder, "--api", j.api, "--account", strings.Repeat("0", 32)))
	ctx, cancel := context.WithTimeout(j.ctx, time.Second) // for those that wait for what never comes
	defer cancel()
	if err := root.ExecuteContext(ctx); errors.As(err, new(misuse)) && !strings.HasSuffix(err.Error(), "say --yes") { // which readers at a terminal are asked
		return err
	}
	return nil
}

func TestCommandsThatThereAreNot(t *testing.T) {
	j := newJudge(t)
	for script, want := range map[string]string{
		"tidegate verions list shop":                                            `no command "verions"`,
		"tidegate token lst":                                                    `no command "lst"`,
		"bin/tidegate versions list shop --jsn":                                 "unknown flag: --jsn",
		"tidegate versions list":                                                "needs SCRIPT",
		"tidegate deployments status a b":                                       "too many arguments",
		"tidegate tail shop --for soon":                                         "invalid argument",
		"tidegate metrics show shop --since yesterday":                          "--since",
		"tidegate policy set shop --action explode":                             "explode",
		"tidegate jobs create --name x":                                         "needs --destination",
		"echo x | tidegate restore --replce -":                                  "--replce",
		"id=$(tidegate token creat)":                                            `no command "creat"`,
		"kubectl exec pod -- tidegate token list --apii x":                      "--apii",
		"docker compose exec jobs-api-1 tidegate doktor":                        `no command "doktor"`,
		"systemd-run -p User=tidegate tidegate verify --sinc 1h":                "--sinc",
		"TIDEGATE_TOKEN=x tidegate jobs list extra":                             "too many arguments",
		"tidegate config check --role router r.yaml -- --kafka-tsl":             "--kafka-tsl",
		"tidegate up --roles api,gatway":                                        "gatway",
		"router --take-over ... --log-level loud &":                             "loud",
		"ingest --gateway-addr :80":                                             "--gateway-addr",
		"jobs-api now":                                                          `"now" is no flag`,
		"(cd x && make relese COMMIT=v1)":                                       "no target relese",
		"kubectl exec -i p -- sh -c 'TIDEGATE_TOKEN=$(cat) tidegate toke list'": `no command "toke"`,
	} {
		var faults []string
		for _, c := range commands.In("```\n" + script + "\n```\n") {
			if _, err := j.command(c); err != nil {
				faults = append(faults, err.Error())
			}
		}
		if len(faults) != 1 || !strings.Contains(faults[0], want) {
			t.Errorf("%s: the faults are %q, want one with %s", script, faults, want)
		}
	}
	for _, text := range []string{"Say `tidegate policy ste`.", "Say `tidegate token list --jsno`.", "Say `tidegate deployments status A B`.", "`make upp`"} {
		for _, c := range commands.In(text) {
			if _, err := j.command(c); err == nil {
				t.Errorf("%s: no fault is found", text)
			}
		}
	}
}
