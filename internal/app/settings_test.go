package app

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// settingsFlags are the flags of a process, with a file named in --config.
func settingsFlags(t *testing.T, text string, roles ...Role) (*Config, *pflag.FlagSet) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tidegate.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig(roles...)
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.Bind(f)
	if err := f.Parse([]string{"--config", path}); err != nil {
		t.Fatal(err)
	}
	return &c, f
}

// faultsOf a file, with its name cut off.
func faultsOf(t *testing.T, text string, roles ...Role) []string {
	t.Helper()
	c, f := settingsFlags(t, text, roles...)
	var list []string
	for _, fault := range CheckSettings(f, c.Validate) {
		list = append(list, strings.ReplaceAll(fault.Error(), f.Lookup("config").Value.String(), "FILE"))
	}
	return list
}

func TestEveryTypeOfSettingIsRead(t *testing.T) {
	c, f := settingsFlags(t, `
log-level: debug
kafka: [kafka-1:9092, "kafka-2:9092"]
roles:
  - logpush
topic-retention: 5s
logpush-disable-after: 0
topic-partitions: 12
logpush-memory-bytes: 1073741824
logpush-allow-http: true
kafka-sasl-username: "12"
logpush-file-roots: []
`, IngestRoles...)
	if err := ReadSettings(f); err != nil {
		t.Fatal(err)
	}
	if c.LogLevel != "debug" || !cmp.Equal(c.Kafka, []string{"kafka-1:9092", "kafka-2:9092"}) || !cmp.Equal(c.Roles, []Role{RoleLogpush}) ||
		c.Topic.Retention != 5*time.Second || c.Logpush.DisableAfter != 0 || c.Topic.Partitions != 12 || c.Logpush.MemoryBytes != 1<<30 || !c.Logpush.AllowHTTP || c.KafkaSecurity.Username != "12" {
		t.Errorf("read as %+v", c)
	}
}

// The command line comes before the environment, that before the file, and that before
// the default; Settings tells them apart.
func TestWhichSettingHolds(t *testing.T) {
	t.Setenv("TIDEGATE_TOPIC_REPLICATION", "3")
	t.Setenv("TIDEGATE_KAFKA", "env-1:9092,env-2:9092")
	c, f := settingsFlags(t, "topic-partitions: 5\ntopic-replication: 5\nkafka: [file:9092]\nlogpush-parallel: 5\nclickhouse: http://u:secret@h:8123/d?password=secret\n", IngestRoles...)
	if err := f.Set("topic-partitions", "7"); err != nil {
		t.Fatal(err)
	}
	if err := ReadSettings(f); err != nil {
		t.Fatal(err)
	}
	if c.Topic.Partitions != 7 || c.Topic.Replication != 3 || !cmp.Equal(c.Kafka, []string{"env-1:9092", "env-2:9092"}) || c.Logpush.Parallel != 5 || c.Ingest.Inserts != 4 {
		t.Errorf("read as %+v", c)
	}
	sources := map[string]Setting{}
	for _, s := range Settings(f) {
		sources[s.Key] = s
	}
	path := f.Lookup("config").Value.String()
	for key, want := range map[string]string{
		"topic-partitions": "flag", "topic-replication": "TIDEGATE_TOPIC_REPLICATION", "kafka": "TIDEGATE_KAFKA",
		"logpush-parallel": path + ":4", "ingest-inserts": "default",
	} {
		if sources[key].Source != want {
			t.Errorf("%s comes from %q, want %q", key, sources[key].Source, want)
		}
	}
	if got := sources["clickhouse"].Value; strings.Contains(got, "secret") || !strings.Contains(got, "@h:8123/d") {
		t.Errorf("the address of ClickHouse is shown as %q", got)
	}
}

func TestFaultsOfSettings(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		for _, fault := range faultsOf(t, text, AllRoles...) {
			if strings.Contains(fault, want) {
				return
			}
		}
		t.Errorf("%q: the faults are %q, want one with %q", text, faultsOf(t, text, AllRoles...), want)
	}
	f("\ntopic_partitions: 4", `FILE:2: unknown key "topic_partitions": did you mean "topic-partitions"?`)
	f("log-lvl: info", `did you mean "log-level"?`)
	f("colour: red", `FILE:1: unknown key "colour": the keys are the names of the flags`)
	f("config: other.yaml", `unknown key "config"`)
	f("log-level: info\nlog-level: info", `FILE:2: key "log-level" is given twice: first in line 1`)
	f("log-level:", `FILE:1: key "log-level": it has no value`)
	f("log-level: 5", `key "log-level" is "5": it must be text`)
	f("kafka: a:9092", `key "kafka" is "a:9092": it must be a list`)
	f("kafka: [a:9092, 5]", `key "kafka": the element in line 1 must be text`)
	f("log-level: [info]", `key "log-level": it must be one value`)
	f("topic-partitions: four", `key "topic-partitions" is "four": it must be a whole number`)
	f("topic-partitions: \"4\"", `it must be a whole number`)
	f("topic-partitions: 99999999999999999999", `FILE:1: key "topic-partitions"`)
	f("topic-retention: 24", `it must have a unit, such as 24s or 24m`)
	f("topic-retention: soon", `key "topic-retention" is "soon"`)
	f("logpush-allow-http: \"yes\"", `it must be true or false`)
	f("roles: [gateway, router]", `key "roles": unknown role "router"`)
	f("spool-fsync: sometimes", `key "spool-fsync" is "sometimes"`)
	f("kafka: {tls: true}", `settings are not grouped: write "kafka-tls"`)
	f("gateway-tls: {addr: \":443\"}", `settings are not grouped: write "gateway-tls-addr"`)
	f("a: b: c", "FILE:1: it is not YAML")
	f("- a", "FILE:1: a file with settings has lines")
	f("log-level: info\n---\nlog-level: info", "FILE:2: a second document begins")
	f("log-level: loud\nzzz: 1", `FILE:1: --log-level is "loud"`)
	f("drain-timeout: -5s", "FILE:1: --drain-timeout is -5s: it must be positive")
	f("topic-replication: 0", "FILE:1: --topic-partitions (4), --topic-replication (0)")
	f("gateway-tls-cert: [/no/such.pem]", "FILE:1: --gateway-tls-cert: open /no/such.pem")
	f("api-token-file: /", "FILE:1: --api-token-file: / is a folder")
	if got := faultsOf(t, "clickhouse: ftp://u:secret@h\nadmin-token-file: /no/such", AllRoles...); strings.Contains(strings.Join(got, ""), "secret") || strings.Contains(strings.Join(got, ""), "such") {
		t.Errorf("a password, or a file that is written, is in %q", got)
	}
	f("router-token-file: /", "FILE:1: --router-token-file: / is a folder")
	made := "database: c.db\nsecrets-key-file: /dev/null\nclickhouse: http://h:8123\nadmin-token-file: /no/such\nrouter-token-file: /no/such"
	if got := faultsOf(t, made, JobsAPIRoles...); len(got) > 0 {
		t.Errorf("files that the first start makes: %q", got)
	}
	if got := faultsOf(t, "topic-retention: 5\ntopic-retentoin: 5s\nlog-format: xml", JobsAPIRoles...); len(got) != 3 {
		t.Errorf("three faults are %q", got)
	}
	if got := faultsOf(t, "ingest-inserts: 3", RoleGateway); len(got) == 0 || !strings.Contains(got[0], "it is a setting of processes with the roles ingest") {
		t.Errorf("a setting of another process: %q", got)
	}
}

// A value in the file is checked, also where a flag comes before it, which it leaves alone.
func TestAFaultBehindAFlag(t *testing.T) {
	c, f := settingsFlags(t, "spool-fsync: sometimes\nkafka: [a, 5]\nroles: [none]\n", AllRoles...)
	for key, value := range map[string]string{"spool-fsync": "200ms", "kafka": "k:1,k:2", "roles": "gateway"} {
		if err := f.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := ReadSettings(f); err == nil || len(each(err)) != 3 {
		t.Errorf("got %v, want three faults", err)
	}
	if c.Events.SpoolFsync.String() != "200ms" || !cmp.Equal(c.Kafka, []string{"k:1", "k:2"}) || !cmp.Equal(c.Roles, []Role{RoleGateway}) {
		t.Errorf("the flags are now %s, %v, %v", c.Events.SpoolFsync.String(), c.Kafka, c.Roles)
	}
}

var commented = regexp.MustCompile(`(?m)^#([a-z0-9-]+):`)

// The example has every flag, and says what holds without it.
func TestTheExampleHoldsEverySetting(t *testing.T) {
	for _, roles := range [][]Role{AllRoles, RouterRoles, IngestRoles, JobsAPIRoles} {
		_, f := settingsFlags(t, "", roles...)
		var text strings.Builder
		if err := WriteExample(&text, "test", f); err != nil {
			t.Fatal(err)
		}
		c, read := settingsFlags(t, commented.ReplaceAllString(text.String(), "$1:"), roles...)
		if err := ReadSettings(read); err != nil {
			t.Errorf("%v: %v", roles, err)
			continue
		}
		read.VisitAll(func(flag *pflag.Flag) {
			switch {
			case flag.Name == configFlag:
			case !strings.Contains(source(flag), "tidegate.yaml:"):
				t.Errorf("%v: the example leaves out %s", roles, flag.Name)
			case flag.Value.String() != flag.DefValue:
				t.Errorf("%v: %s is %s by the example and %s by default", roles, flag.Name, flag.Value, flag.DefValue)
			}
		})
		if want := DefaultConfig(roles...); c.Topic.Retention != want.Topic.Retention || c.DrainTimeout != want.DrainTimeout {
			t.Errorf("%v: durations read as %s, %s", roles, c.Topic.Retention, c.DrainTimeout)
		}
	}
}

// Every flag whose help speaks of a file is known to be read, or not to be.
func TestWhichSettingsNameFiles(t *testing.T) {
	others := map[string]string{
		"config":             "is read by whoever checks it",
		"database":           "is made",
		"logpush-file-roots": "are folders, and are made",
	}
	_, f := settingsFlags(t, "", AllRoles...)
	f.VisitAll(func(flag *pflag.Flag) {
		speaks := regexp.MustCompile(`\b(PEM files?|file with|path of|files? of)\b`).MatchString(flag.Usage) || strings.Contains(flag.Name, "file")
		if _, other := others[flag.Name]; speaks && !other && !readsFile(flag.Name) {
			t.Errorf("--%s speaks of a file: have readsFile know it, or this test", flag.Name)
		}
	})
}

// The files in docs/operations/configuration.md, each named in its first line.
func TestTheDocumentedFilesAreTaken(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string][]Role{"router.yaml": RouterRoles, "ingest.yaml": IngestRoles, "jobs-api.yaml": JobsAPIRoles}
	for _, match := range regexp.MustCompile("(?s)```yaml\n# (\\S+)\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		c, f := settingsFlags(t, match[2], roles[match[1]]...)
		delete(roles, match[1])
		for _, err := range []error{ReadSettings(f), c.Validate()} {
			if err != nil {
				t.Errorf("%s: %v", match[1], err)
			}
		}
	}
	if len(roles) > 0 {
		t.Errorf("not in the page: %v", roles)
	}
}
