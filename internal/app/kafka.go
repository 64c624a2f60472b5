package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

func bindKafkaSecurity(f *pflag.FlagSet, s *stream.Security) {
	f.BoolVar(&s.TLS, "kafka-tls", s.TLS, "speak TLS to --kafka")
	f.StringVar(&s.CAFile, "kafka-tls-ca-file", s.CAFile, "PEM file of the authorities that sign the brokers' certificates; without it the system's. The files of --kafka-... are read for each new connection")
	f.StringVar(&s.CertFile, "kafka-tls-cert-file", s.CertFile, "PEM file of a certificate, with its chain, for brokers that ask for one (mutual TLS)")
	f.StringVar(&s.KeyFile, "kafka-tls-key-file", s.KeyFile, "PEM file of that certificate's key")
	f.StringVar(&s.ServerName, "kafka-tls-server-name", s.ServerName, "name that the certificate of every broker has; without it the host in the broker's address")
	f.StringVar(&s.Mechanism, "kafka-sasl-mechanism", s.Mechanism, "how to log in to --kafka: "+strings.Join(stream.Mechanisms, ", ")+"; empty for no login")
	f.StringVar(&s.Username, "kafka-sasl-username", s.Username, "user who logs in")
	f.StringVar(&s.PasswordFile, "kafka-sasl-password-file", s.PasswordFile, "file with the user's password")
}

// TopicConfig is how topics are made that are not there yet.
type TopicConfig struct {
	Partitions  int
	Replication int
	Retention   time.Duration // of events
}

func (c *TopicConfig) bind(f *pflag.FlagSet, ofEvents bool) {
	f.IntVar(&c.Partitions, "topic-partitions", c.Partitions, "partitions of a topic, if it has to be created")
	f.IntVar(&c.Replication, "topic-replication", c.Replication, "replicas of a topic, if it has to be created")
	if ofEvents {
		f.DurationVar(&c.Retention, "topic-retention", c.Retention, "how long the event topic keeps events, if it has to be created")
	}
}

func (c *TopicConfig) validate() error {
	if c.Partitions < 1 || c.Replication < 1 || c.Retention <= 0 {
		return fmt.Errorf("--topic-partitions (%d), --topic-replication (%d) and --topic-retention (%s) must be positive", c.Partitions, c.Replication, c.Retention)
	}
	return nil
}

// validateKafka refuses what is given by half: left out silently it would mean a
// connection that is less safe than the operator believes.
func (c *Config) validateKafka() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	s := c.KafkaSecurity
	if s != (stream.Security{}) && len(c.Kafka) == 0 {
		fault("the flags that begin with --kafka-tls and --kafka-sasl need --kafka: they are about brokers of your own")
	}
	for _, f := range []struct{ flag, value string }{
		{"kafka-tls-ca-file", s.CAFile}, {"kafka-tls-cert-file", s.CertFile}, {"kafka-tls-key-file", s.KeyFile}, {"kafka-tls-server-name", s.ServerName},
	} {
		if f.value != "" && !s.TLS {
			fault("--%s is %q without --kafka-tls: set that too, or the brokers are spoken to in clear text", f.flag, f.value)
		}
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		fault("--kafka-tls-cert-file (%q) and --kafka-tls-key-file (%q) are needed together", s.CertFile, s.KeyFile)
	}
	if (s.Mechanism == "") != (s.Username == "") || (s.Username == "") != (s.PasswordFile == "") {
		fault("--kafka-sasl-mechanism (%q), --kafka-sasl-username (%q) and --kafka-sasl-password-file (%q) are needed together", s.Mechanism, s.Username, s.PasswordFile)
	}
	if s.Mechanism != "" && !slices.Contains(stream.Mechanisms, s.Mechanism) {
		fault("--kafka-sasl-mechanism is %q: it must be one of %s", s.Mechanism, strings.Join(stream.Mechanisms, ", "))
	}
	return errors.Join(faults...)
}

// checkKafkaSecurity reads the files that connections will read.
func (p *process) checkKafkaSecurity() error {
	s := p.config.KafkaSecurity
	if err := s.Check(); err != nil {
		return err
	}
	if s.Mechanism == "PLAIN" && !s.TLS {
		p.log.Warn("the password for Kafka goes over the network in clear text: set --kafka-tls, or choose a SCRAM mechanism")
	}
	return nil
}

// topic names one of the platform's topics.
func (p *process) topic(name string) stream.Config {
	return stream.Config{Brokers: p.config.Kafka, Topic: name, Security: p.config.KafkaSecurity}
}

func (p *process) stream() stream.Config { return p.topic(schema.Topic) }

func (p *process) tailStream() stream.Config { return p.topic(schema.TailTopic) }
