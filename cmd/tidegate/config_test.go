package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
)

// local runs a command that needs no API, and returns its exit status and what it printed.
func local(t *testing.T, command *cobra.Command, args ...string) (int, string) {
	t.Helper()
	root := &cobra.Command{Use: "tidegate", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(command)
	root.SetArgs(args)
	var out bytes.Buffer
	root.SetOut(&out)
	status := app.Execute(root)
	return status, out.String()
}

func TestConfigCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tidegate.yaml")
	f := func(text string, want int, words string, args ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		status, out := local(t, configCommands(), append([]string{"config", "check", path}, args...)...)
		if status != want || !strings.Contains(out, words) {
			t.Errorf("%q %q: status %d and %q, want %d and %q", text, args, status, out, want, words)
		}
	}
	f("", 0, "tidegate up can start with it")
	f("kafka-addr: 127.0.0.1:0\nclickhouse-addr: 127.0.0.1:0", 0, "")
	f("kafka-adr: 127.0.0.1:0", 1, path+`:1: unknown key "kafka-adr": did you mean "kafka-addr"?`)
	f("database: postgres://postgres/tidegate", 0, "tidegate up can start with it")
	f("database: postgres://postgres/tidegate", 1, "--secrets-key-file is not set", "--role", "jobs-api", "--", "--clickhouse", "http://h")
	f("chdb-library: /no/such.so", 1, path+":1: --chdb-library: open /no/such.so")
	f("kafka: [a:1]", 1, "--api-url is not set", "--role", "router")
	f("kafka: [a:1]", 0, "router can start", "--role", "router", "--", "--api-url", "http://h")
	f("kafka-addr: 127.0.0.1:0", 1, "unknown key", "--role", "jobs-api")
	f("", 2, "", "--role", "gateway")
	f("", 2, "", "--", "--no-such-flag")
	f("", 2, "", "--", "word")
	t.Setenv("TIDEGATE_TOPIC_PARTITIONS", "0")
	f("", 1, "TIDEGATE_TOPIC_PARTITIONS: --topic-partitions (0)")
	if status, out := local(t, configCommands(), "config", "check"); status != 1 || !strings.Contains(out, "TIDEGATE_TOPIC_PARTITIONS: --topic-partitions (0)") {
		t.Errorf("without a file: status %d and %q", status, out)
	}
	if status, out := local(t, configCommands(), "config", "check", "--role", "router", "--", "--topic-partitions", "4", "--kafka", "a:1", "--api-url", "http://h"); status != 0 || !strings.Contains(out, "this environment: router can start with it") {
		t.Errorf("without a file, of flags: status %d and %q", status, out)
	}
	if status, _ := local(t, configCommands(), "config", "check", filepath.Join(t.TempDir(), "none")); status != 1 {
		t.Errorf("of a file that is not there: status %d, want 1", status)
	}
}

// What the example says of each process, that process takes.
func TestConfigExample(t *testing.T) {
	for role, open := range processes {
		status, text := local(t, configCommands(), "config", "example", "--role", role)
		if status != 0 {
			t.Fatalf("%s: status %d", role, status)
		}
		text = regexp.MustCompile(`(?m)^#([a-z0-9-]+:)`).ReplaceAllString(text, "$1")
		path := filepath.Join(t.TempDir(), "tidegate.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open()
		if err := s.flags.Set("config", path); err != nil {
			t.Fatal(err)
		}
		if err := app.ReadSettings(s.flags); err != nil {
			t.Errorf("%s: %v", role, err)
		}
		for _, setting := range app.Settings(s.flags) {
			if !strings.HasPrefix(setting.Source, path) || setting.Value != s.flags.Lookup(setting.Key).DefValue {
				t.Errorf("%s: the example makes of %s %q, from %s", role, setting.Key, setting.Value, setting.Source)
			}
		}
	}
}

func TestConfigShow(t *testing.T) {
	status, out := local(t, configCommands(), "config", "show", "--role", "ingest", "--json", "--", "--clickhouse", "http://u:hunter2@h:8123")
	if status != 0 || strings.Contains(out, "hunter2") || !strings.Contains(out, `"value": "http://u:xxxxx@h:8123"`) || !strings.Contains(out, `"source": "flag"`) {
		t.Errorf("status %d and %s", status, out)
	}
	t.Setenv("TIDEGATE_CONFIG", filepath.Join(t.TempDir(), "none"))
	if status, _ := local(t, configCommands(), "config", "show"); status != 1 {
		t.Errorf("of a file that is not there: status %d, want 1", status)
	}
}
