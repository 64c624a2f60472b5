package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// LogpushConfig is about delivery. What destinations may be holds for targets of
// notifications, too.
type LogpushConfig struct {
	Interval            time.Duration // a job's batch closes after this, unless it says otherwise
	Parallel            int           // uploads that a partition of a job may have under way
	MemoryBytes         int64         // what deliveries may hold of events
	AllowHTTP           bool          // destinations may be plain http://
	AllowPrivate        bool          // destinations may be in private ranges
	AllowLoopback       bool
	Refuse              []string      // host, host:port or range of addresses where no destination may be
	DeadLettersMax      int64         // of one job
	DeadLettersMaxBytes int64         // of one job
	GoogleAmbient       bool          // gs:// destinations may use this process's own credentials
	FileRoots           []string      // file:// destinations must lie below one of these
	JobsMax             int           // of one dataset in one account; 0 for none
	DisableAfter        time.Duration // a job fails for so long before it is disabled; 0: for ever
	AlertEvery          time.Duration // least time between two alerts of one job and type
}

func defaultLogpush() LogpushConfig {
	return LogpushConfig{
		Interval: 30 * time.Second, // Logpush's own default (reference/logpush.md, 2.1)
		Parallel: 4, MemoryBytes: 512 << 20,
		DeadLettersMax: 1000, DeadLettersMaxBytes: 100 << 20,
		JobsMax:      1000, // as much as an account's own max_jobs can be
		DisableAfter: 24 * time.Hour, AlertEvery: 24 * time.Hour,
	}
}

func (c *LogpushConfig) bind(f *pflag.FlagSet, has func(Role) bool) {
	if has(RoleLogpush) || has(RoleAPI) || has(RoleRollback) { // the API tests a destination before it stores a job
		f.BoolVar(&c.AllowHTTP, "logpush-allow-http", c.AllowHTTP, "allow plain http:// destinations, and targets of notifications")
		f.BoolVar(&c.AllowPrivate, "logpush-allow-private", c.AllowPrivate, "allow destinations, and targets of notifications, in private address ranges; link-local ones and those of clouds' metadata are never")
		f.BoolVar(&c.AllowLoopback, "logpush-allow-loopback", c.AllowLoopback, "allow destinations, and targets of notifications, on this machine's loopback addresses")
		f.StringSliceVar(&c.Refuse, "logpush-refuse", c.Refuse, "hosts, host:ports and address ranges, separated by commas, where no destination or target of notifications may be, whatever is allowed: the platform's other machines. What other settings of this process name is refused anyway")
	}
	if has(RoleLogpush) || has(RoleAPI) {
		f.BoolVar(&c.GoogleAmbient, "logpush-google-ambient", c.GoogleAmbient, "let gs:// destinations without credentials write with this process's own (Application Default Credentials)")
		f.StringSliceVar(&c.FileRoots, "logpush-file-roots", c.FileRoots, "folders that file:// destinations may write below")
	}
	if has(RoleAPI) {
		f.IntVar(&c.JobsMax, "logpush-jobs-max", c.JobsMax, "Logpush jobs of one dataset that any account may have, whatever its own max_jobs says; 0 for none")
	}
	if has(RoleLogpush) {
		f.DurationVar(&c.DisableAfter, "logpush-disable-after", c.DisableAfter, "how long a job may fail without one success before it is disabled; 0 is for ever")
		f.DurationVar(&c.AlertEvery, "logpush-alert-every", c.AlertEvery, "least time between two alerts of one job and type")
		f.Int64Var(&c.DeadLettersMax, "logpush-dead-letters-max", c.DeadLettersMax, "dead letters of a job that may wait; at the bound its delivery waits")
		f.Int64Var(&c.DeadLettersMaxBytes, "logpush-dead-letters-max-bytes", c.DeadLettersMaxBytes, "bytes, compressed, of a job's dead letters that may wait")
		f.DurationVar(&c.Interval, "logpush-interval", c.Interval, "how long a batch may wait, for jobs that do not say")
		f.IntVar(&c.Parallel, "logpush-parallel", c.Parallel, "how many uploads a partition of a job may have under way, 1 to 16")
		f.Int64Var(&c.MemoryBytes, "logpush-memory-bytes", c.MemoryBytes, "what Logpush may hold of events in memory")
	}
}

func (c *LogpushConfig) validate(delivers bool) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, text := range c.Refuse {
		if err := egress.Check(text); err != nil {
			fault("--logpush-refuse: %w", err)
		}
	}
	if c.DeadLettersMax < 1 || c.DeadLettersMaxBytes < 1 {
		fault("--logpush-dead-letters-max (%d) and --logpush-dead-letters-max-bytes (%d) must be positive", c.DeadLettersMax, c.DeadLettersMaxBytes)
	}
	if c.DisableAfter < 0 || c.AlertEvery < 0 {
		fault("--logpush-disable-after (%s) and --logpush-alert-every (%s) must not be negative", c.DisableAfter, c.AlertEvery)
	}
	if c.Interval <= 0 {
		fault("--logpush-interval is %s: it must be positive", c.Interval)
	}
	if c.JobsMax < 0 {
		fault("--logpush-jobs-max is %d: it must be 0, for none, or more", c.JobsMax)
	}
	if delivers && (c.Parallel < 1 || c.Parallel > logpush.ParallelMax || c.MemoryBytes < logpush.MemoryBytesMin) {
		fault("--logpush-parallel (%d) must be from 1 to %d, --logpush-memory-bytes (%d) at least %d",
			c.Parallel, logpush.ParallelMax, c.MemoryBytes, logpush.MemoryBytesMin)
	}
	return errors.Join(faults...)
}
