package app

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/logjob"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/bucket"
	"tidegate/pipeline/logpush/sink/clickhouse"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/file"
	"tidegate/pipeline/logpush/sink/intake"
	"tidegate/pipeline/logpush/sink/kafka"
	"tidegate/pipeline/logpush/sink/kinesis"
	"tidegate/pipeline/logpush/sink/syslog"
	"tidegate/pipeline/stream"
)

// logpushGrace is how long an upload in hand may take at a stop. With what the
// group and the last report of health take it stays within stopGrace.
const logpushGrace = 2 * time.Second

// addLogpush adds the deliveries of all jobs.
func (p *process) addLogpush(context.Context) error {
	groups := func(groupID string) logpush.Group {
		// A job starts at "now": delivery itself looks up where that is.
		return stream.NewGroup(stream.GroupConfig{Config: p.stream(), GroupID: groupID, Logger: p.log})
	}
	reader, err := p.reader()
	if err != nil {
		return err
	}
	config := logpush.Config{
		DefaultInterval: p.config.Logpush.Interval, StopGrace: logpushGrace,
		Parallel: p.config.Logpush.Parallel, MemoryBytes: p.config.Logpush.MemoryBytes,
		Deletions: p.store,
		Letters:   p.store, LetterLimits: logjob.LetterLimits{Letters: p.config.Logpush.DeadLettersMax, Bytes: p.config.Logpush.DeadLettersMaxBytes},
		Health: p.store, DisableAfter: p.config.Logpush.DisableAfter,
		Alerts: p.store, AlertClient: p.egress().Client(), AlertEvery: p.config.Logpush.AlertEvery,
	}
	manager, err := logpush.New(config, p.store, p.sinks(), groups, reader, p.log)
	if err != nil {
		return err
	}
	p.services = append(p.services, service{"logpush", stageEdge, manager.Run})
	p.checks = append(p.checks, p.kafkaCheck())
	return p.addReplays(manager, reader)
}

// addReplays adds what sends events again that were there before.
func (p *process) addReplays(manager *logpush.Manager, topic logpush.Topic) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this process for its replays: %w", err)
	}
	replays := logpush.ReplayConfig{Replays: p.store, Topic: topic, Holder: host + "/" + uuid.NewString()}
	if p.rates != nil {
		replays.Archive = p.rates
	}
	p.services = append(p.services, service{"logpush replays", stageEdge, func(ctx context.Context) error {
		return manager.RunReplays(ctx, replays)
	}})
	return nil
}

// egress is where jobs and alerts may connect to.
func (p *process) egress() egress.Policy {
	return egress.Policy{
		AllowHTTP:     p.config.Logpush.AllowHTTP,
		AllowLoopback: p.config.Logpush.AllowLoopback,
		AllowPrivate:  p.config.Logpush.AllowPrivate,
		Own:           p.platform,
	}
}

// reader reads the event topic until every service has ended.
func (p *process) reader() (*stream.Reader, error) {
	reader, err := stream.NewReader(p.stream(), p.log)
	if err == nil {
		p.closers = append(p.closers, func() error {
			reader.Close()
			return nil
		})
	}
	return reader, err
}

// previews reads the event topic, where there is Kafka.
func (p *process) previews(sinks logpush.Sinks) (*logpush.Previews, error) {
	if len(p.config.Kafka) == 0 {
		return logpush.NewPreviews(sinks, nil, nil), nil
	}
	reader, err := p.reader()
	if err != nil {
		return nil, err
	}
	return logpush.NewPreviews(sinks, reader, p.store), nil
}

// sinks is the table of destinations: a new one is a folder below
// pipeline/logpush/sink and a line here, or, if it is reached over HTTP, a line in
// the table of sink/intake.
func (p *process) sinks() logpush.Sinks {
	policy := p.egress()
	openBucket := func(u *url.URL) (logpush.Sink, error) {
		return bucket.New(u, bucket.Options{Egress: policy, GoogleAmbient: p.config.Logpush.GoogleAmbient})
	}
	sinks := logpush.Sinks{
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
			return file.New(u, file.Options{Roots: p.config.Logpush.FileRoots})
		},
	}
	for _, scheme := range intake.Schemes() {
		sinks[scheme] = func(u *url.URL) (logpush.Sink, error) { return intake.New(u, intake.Options{Egress: policy}) }
	}
	return sinks
}
