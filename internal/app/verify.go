package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/clickhouse"
	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
	"tidegate/pipeline/verify"
	"tidegate/schema"
)

// VerifyConfig says what to compare, and how to reach it.
type VerifyConfig struct {
	Kafka         []string // brokers, host:port
	KafkaSecurity stream.Security
	ClickHouse    string // http://[user:password@]host:port[/database]
	Access        clickhouse.Access
	// See verify.Config.
	Since, InsertedSince time.Time
	Limit                int
}

// Bind adds the flags of the connections, which are called as those of the processes are.
func (c *VerifyConfig) Bind(f *pflag.FlagSet) {
	f.StringSliceVar(&c.Kafka, "kafka", c.Kafka, "Kafka brokers, host:port, separated by commas (default: that of the platform in --data-dir)")
	bindKafkaSecurity(f, &c.KafkaSecurity)
	f.StringVar(&c.ClickHouse, "clickhouse", c.ClickHouse, "ClickHouse's HTTP interface, http://[user:password@]host:8123[/database] (default: that of the platform in --data-dir)")
	bindClickHouseAccess(f, &c.Access)
}

// Validate names the first member that cannot be used, its value, and why.
func (c *VerifyConfig) Validate() error {
	connections := Config{Kafka: c.Kafka, KafkaSecurity: c.KafkaSecurity}
	if err := connections.validateKafka(); err != nil {
		return err
	}
	if len(c.Kafka) == 0 {
		return errors.New("--kafka is not set")
	}
	if c.ClickHouse == "" {
		return errors.New("--clickhouse is not set")
	}
	if c.Limit < 1 {
		return fmt.Errorf("--limit is %d: it must be 1 or more", c.Limit)
	}
	if err := validURL("clickhouse", c.ClickHouse); err != nil {
		return err
	}
	return validateClickHouse(c.ClickHouse, c.Access)
}

// Undecided is an error after which nobody knows the answer to a question that was asked
// with yes or no: a program that fails with it has exit status 2.
type Undecided struct{ Err error }

func (e Undecided) Error() string { return e.Err.Error() }

func (e Undecided) Unwrap() error { return e.Err }

// Verify holds the tables in ClickHouse against the topic of trace events in Kafka. Every
// error is Undecided.
func Verify(ctx context.Context, c VerifyConfig) (report verify.Report, err error) {
	defer func() {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
			err = fmt.Errorf("%w: check --kafka and --clickhouse, and that both run and can be reached from here", err)
		}
		if err != nil {
			err = Undecided{fmt.Errorf("compare Kafka with ClickHouse: %w", err)}
		}
	}()
	if err := c.KafkaSecurity.Check(); err != nil {
		return verify.Report{}, err
	}
	reader, err := stream.NewReader(stream.Config{Brokers: c.Kafka, Topic: schema.Topic, Security: c.KafkaSecurity}, slog.New(slog.DiscardHandler))
	if err != nil {
		return verify.Report{}, err
	}
	defer reader.Close()
	config := clickhouse.DefaultConfig(c.ClickHouse)
	config.Access = c.Access
	db, err := clickhouse.Open(config)
	if err != nil {
		return verify.Report{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return verify.Run(ctx, verify.Config{
		Topic: schema.Topic, Group: ingestGroup, Since: c.Since, InsertedSince: c.InsertedSince, Limit: c.Limit, Planned: ingest.Planned,
	}, reader, db)
}
