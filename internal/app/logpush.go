package app

import (
	"context"
	"net/url"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/bucket"
	"tidegate/pipeline/logpush/sink/clickhouse"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/file"
	"tidegate/pipeline/logpush/sink/http"
	"tidegate/pipeline/logpush/sink/kafka"
	"tidegate/pipeline/logpush/sink/kinesis"
	"tidegate/pipeline/logpush/sink/syslog"
	"tidegate/pipeline/stream"
)

// logpushGrace is how long an upload in hand may take at a stop. With what the
// group and the last report of health take it stays within stopGrace.
const logpushGrace = 2 * time.Second

// addLogpush adds the deliveries of all jobs.
func (p *process) addLogpush(ctx context.Context) error {
	groups := func(groupID string) logpush.Group {
		// A job starts at "now": delivery itself looks up where that is.
		return stream.NewGroup(stream.GroupConfig{Config: p.stream(), GroupID: groupID, Logger: p.log})
	}
	manager, err := logpush.New(logpush.Config{DefaultInterval: p.config.LogpushInterval, StopGrace: logpushGrace}, p.store, p.sinks(ctx), groups, p.log)
	if err != nil {
		return err
	}
	p.services = append(p.services, service{"logpush", stageEdge, manager.Run})
	p.checks = append(p.checks, p.kafkaCheck())
	return nil
}

// sinks is the table of destinations: a new one is a folder below
// pipeline/logpush/sink and a line here.
func (p *process) sinks(ctx context.Context) logpush.Sinks {
	policy := egress.Policy{
		AllowHTTP:     p.config.LogpushAllowHTTP,
		AllowLoopback: p.config.LogpushAllowLoopback,
		AllowPrivate:  p.config.LogpushAllowPrivate,
		Refuse:        p.ownAddresses(ctx),
	}
	openHTTP := func(u *url.URL) (logpush.Sink, error) { return http.New(u, http.Options{Egress: policy}) }
	openBucket := func(u *url.URL) (logpush.Sink, error) {
		return bucket.New(u, bucket.Options{Egress: policy, GoogleAmbient: p.config.LogpushGoogleAmbient})
	}
	return logpush.Sinks{
		"https": openHTTP,
		"http":  openHTTP,
		"s3":    openBucket,
		"r2":    openBucket,
		"gs":    openBucket,
		"azure": openBucket,
		"clickhouse": func(u *url.URL) (logpush.Sink, error) {
			return clickhouse.New(u, clickhouse.Options{Egress: policy})
		},
		"kafka":   func(u *url.URL) (logpush.Sink, error) { return kafka.New(u, kafka.Options{Egress: policy}) },
		"kinesis": func(u *url.URL) (logpush.Sink, error) { return kinesis.New(u, kinesis.Options{Egress: policy}) },
		"syslog":  func(u *url.URL) (logpush.Sink, error) { return syslog.New(u, syslog.Options{Egress: policy}) },
		"file": func(u *url.URL) (logpush.Sink, error) {
			return file.New(u, file.Options{Roots: p.config.LogpushFileRoots})
		},
	}
}
