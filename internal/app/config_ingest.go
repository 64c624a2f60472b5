package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/clickhouse"
	"tidegate/pipeline/ingest"
)

// IngestConfig is about what stores events.
type IngestConfig struct {
	// SessionTimeout is how long an ingest process may be silent before the others
	// get its partitions.
	SessionTimeout time.Duration
	Inserts        int   // blocks that are stored at once
	MemoryBytes    int64 // what ingest may hold of events
	Names          int   // combinations of script, version and outcome in use, of an account
}

func defaultIngest() IngestConfig {
	return IngestConfig{
		SessionTimeout: 10 * time.Second,
		Inserts:        ingest.InsertsDefault, MemoryBytes: ingest.MemoryBytesDefault, Names: ingest.NamesDefault,
	}
}

func (c *IngestConfig) bind(f *pflag.FlagSet) {
	f.IntVar(&c.Inserts, "ingest-inserts", c.Inserts, "blocks of events that are decoded and stored in ClickHouse at once, at most; further partitions wait, and their blocks grow")
	f.Int64Var(&c.MemoryBytes, "ingest-memory-bytes", c.MemoryBytes, "what ingest may hold of events that are not stored yet; at the bound it stops to fetch")
	f.IntVar(&c.Names, "ingest-names", c.Names, "combinations of script, version and outcome that an account may have in use within an hour; events of further ones go to the quarantine")
	f.DurationVar(&c.SessionTimeout, "ingest-session-timeout", c.SessionTimeout, "how long an ingest process may be silent before others take its partitions over; Kafka takes 6s to 5m unless it is told otherwise")
}

func (c *IngestConfig) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.SessionTimeout < time.Second || c.SessionTimeout > ingest.SessionTimeoutMax {
		fault("--ingest-session-timeout is %s: it must be from 1s to %s, because a block may be half stored until others take its partition over", c.SessionTimeout, ingest.SessionTimeoutMax)
	}
	if c.Names < ingest.NamesMin || c.Names > ingest.NamesMax {
		fault("--ingest-names is %d: it must be from %d to %d", c.Names, ingest.NamesMin, ingest.NamesMax)
	}
	if c.Inserts < 1 || c.Inserts > ingest.InsertsMax || c.MemoryBytes < ingest.MemoryBytesMin(c.Inserts) {
		fault("--ingest-inserts (%d) must be from 1 to %d, --ingest-memory-bytes (%d) at least %d for as many",
			c.Inserts, ingest.InsertsMax, c.MemoryBytes, ingest.MemoryBytesMin(c.Inserts))
	}
	return errors.Join(faults...)
}

// bindRetention is the same for ingest and the API.
func bindRetention(f *pflag.FlagSet, r *clickhouse.Retention) {
	f.IntVar(&r.EventDays, "retention-events-days", r.EventDays, "days that ClickHouse keeps single events, at least, up to 18250; 0 for ever. The same for ingest and the API, like the other days")
	f.IntVar(&r.QuarantineDays, "retention-quarantine-days", r.QuarantineDays, "days that ClickHouse keeps records that are no events; 0 for ever")
	f.IntVar(&r.SecondRateDays, "retention-1s-days", r.SecondRateDays, "days that ClickHouse keeps rates by second, which rollback judges by; 0 for ever")
	f.IntVar(&r.MinuteRateDays, "retention-1m-days", r.MinuteRateDays, "days that ClickHouse keeps rates by minute, in parts of a month; 0 for ever")
	f.IntVar(&r.HourRateDays, "retention-1h-days", r.HourRateDays, "days that ClickHouse keeps rates by hour, in parts of a year; 0 for ever")
}
