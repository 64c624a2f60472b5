package app

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/clickhouse"
	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
)

// parsed is the configuration of a router with some flags.
func parsed(t *testing.T, flags ...string) (Config, error) {
	t.Helper()
	c := DefaultConfig(RoleGateway)
	set := pflag.NewFlagSet("router", pflag.ContinueOnError)
	c.Bind(set)
	if err := set.Parse(append([]string{"--kafka", "127.0.0.1:9092", "--api-url", "http://127.0.0.1:8787"}, flags...)); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func TestBoundsOfEventsAreFlags(t *testing.T) {
	c, err := parsed(t)
	if err != nil || c.Events.SpoolFsync != stream.FsyncAlways || c.Events.SpoolMaxBytes != stream.SpoolBytesDefault ||
		c.Events.QueueMaxBytes != stream.QueueBytesDefault || c.Events.QueueMaxEvents != stream.QueueEventsDefault {
		t.Errorf("the default is %+v, %v", c, err)
	}
	c, err = parsed(t, "--spool-max-bytes", "5368709120", "--spool-fsync", "200ms", "--event-queue-max-bytes", "1048576", "--event-queue-max-events", "1")
	if err != nil || c.Events.SpoolFsync.String() != "200ms" || c.Events.SpoolMaxBytes != 5<<30 || c.Events.QueueMaxBytes != 1<<20 || c.Events.QueueMaxEvents != 1 {
		t.Errorf("read as %+v, %v", c, err)
	}
	f := func(want string, flags ...string) {
		t.Helper()
		if _, err := parsed(t, flags...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", flags, err, want)
		}
	}
	f("must be always, never", "--spool-fsync", "often")
	f("--spool-max-bytes (0)", "--spool-max-bytes", "0")
	f("--event-queue-max-bytes (1048575)", "--event-queue-max-bytes", "1048575")
	f("--event-queue-max-events (0)", "--event-queue-max-events", "0")
}

// parsedIngest is the configuration of an ingest process with some flags.
func parsedIngest(t *testing.T, flags ...string) (Config, error) {
	t.Helper()
	c := DefaultConfig(RoleIngest)
	set := pflag.NewFlagSet("ingest", pflag.ContinueOnError)
	c.Bind(set)
	if err := set.Parse(append([]string{"--kafka", "127.0.0.1:9092", "--clickhouse", "http://127.0.0.1:8123"}, flags...)); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func TestBoundsOfIngestAreFlags(t *testing.T) {
	c, err := parsedIngest(t)
	if err != nil || c.Ingest.Inserts != ingest.InsertsDefault || c.Ingest.MemoryBytes != ingest.MemoryBytesDefault || c.Ingest.Names != ingest.NamesDefault {
		t.Errorf("the default is %+v, %v", c, err)
	}
	c, err = parsedIngest(t, "--ingest-inserts", "2", "--ingest-memory-bytes", "33554432", "--ingest-names", "200000")
	if err != nil || c.Ingest.Inserts != 2 || c.Ingest.MemoryBytes != 32<<20 || c.Ingest.Names != 200_000 {
		t.Errorf("read as %+v, %v", c, err)
	}
	f := func(want string, flags ...string) {
		t.Helper()
		if _, err := parsedIngest(t, flags...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", flags, err, want)
		}
	}
	f("--ingest-inserts (0)", "--ingest-inserts", "0")
	f("--ingest-names is 19999: it must be from 20000 to 500000", "--ingest-names", "19999")
	f("--ingest-names is 500001", "--ingest-names", "500001")
	f("--ingest-inserts (65)", "--ingest-inserts", "65")
	f("--ingest-memory-bytes (33554431) at least 33554432 for as many", "--ingest-memory-bytes", "33554431")
	f("--ingest-memory-bytes (33554432) at least 67108864 for as many", "--ingest-memory-bytes", "33554432", "--ingest-inserts", "8")
}

func TestSessionTimeoutOfIngestIsAFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 10 * time.Second, "1s": time.Second, "30s": 30 * time.Second} {
		var flags []string
		if text != "" {
			flags = []string{"--ingest-session-timeout", text}
		}
		if c, err := parsedIngest(t, flags...); err != nil || c.Ingest.SessionTimeout != want {
			t.Errorf("%q is read as %s, %v, want %s", text, c.Ingest.SessionTimeout, err, want)
		}
	}
	for _, text := range []string{"999ms", "30001ms", "-10s", "0"} {
		if _, err := parsedIngest(t, "--ingest-session-timeout", text); err == nil || !strings.Contains(err.Error(), "it must be from 1s to 30s") {
			t.Errorf("%q: the error is %v, want one with the bounds", text, err)
		}
	}
	if _, err := parsedIngest(t, "--ingest-session-timeout", "ten"); err == nil {
		t.Error("a time-out that is no duration was taken")
	}
	if _, err := parsed(t, "--ingest-session-timeout", "10s"); err == nil {
		t.Error("a router took the flag")
	}
}

func TestRetentionOfEachTableIsAFlag(t *testing.T) {
	read := func(flags ...string) (Config, error) { return parsedIngest(t, flags...) }
	c, err := read("--retention-events-days", "1", "--retention-quarantine-days", "2", "--retention-1s-days", "3", "--retention-1m-days", "4", "--retention-1h-days", "0")
	want := clickhouse.Retention{EventDays: 1, QuarantineDays: 2, SecondRateDays: 3, MinuteRateDays: 4, HourRateDays: 0}
	if err != nil || c.Retention != want {
		t.Errorf("read as %+v, %v; want %+v", c.Retention, err, want)
	}
	if c, err = read(); err != nil || c.Retention != clickhouse.DefaultConfig("").Retention {
		t.Errorf("the default is %+v, %v", c.Retention, err)
	}
	if _, err := read("--retention-1m-days", "-4"); err == nil || !strings.Contains(err.Error(), "the retention of version_rates_1m is -4") {
		t.Errorf("a negative number of days: %v", err)
	}
	for _, flags := range [][]string{{"--retention-1h-days", "30"}, {"--retention-1s-days", "0"}, {"--retention-quarantine-days", "3"}} {
		if _, err := read(flags...); err == nil || !strings.Contains(err.Error(), "must not be the shorter one") {
			t.Errorf("%v: %v", flags, err)
		}
	}
}

// A control plane on its own knows no gateway unless it is told: it must not take the default
// of another process for the names that accounts are kept from.
func TestDomainOfTheGateway(t *testing.T) {
	for _, f := range []struct {
		roles []Role
		flags []string
		want  string
	}{
		{JobsAPIRoles, nil, ""},
		{JobsAPIRoles, []string{"--gateway-url", "https://example.com:8443"}, "example.com"},
		{JobsAPIRoles, []string{"--gateway-url", "https://front.example.com", "--gateway-domain", "example.com"}, "example.com"},
		{AllRoles, nil, "localhost"},
		{AllRoles, []string{"--gateway-domain", "example.com"}, "example.com"},
	} {
		c := DefaultConfig(f.roles...)
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.Bind(set)
		if err := set.Parse(f.flags); err != nil {
			t.Fatal(err)
		}
		if got := c.Gateway.servedBelow(); got != f.want {
			t.Errorf("%v with %v has the domain %q, want %q", f.roles, f.flags, got, f.want)
		}
	}
}
