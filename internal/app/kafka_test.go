package app

import (
	"strings"
	"testing"

	"tidegate/pipeline/stream"
)

func TestSecurityOfKafkaIsFlags(t *testing.T) {
	login := []string{"--kafka-sasl-mechanism", "SCRAM-SHA-512", "--kafka-sasl-username", "u", "--kafka-sasl-password-file", "p"}
	c, err := parsed(t, append(login, "--kafka-tls", "--kafka-tls-ca-file", "ca", "--kafka-tls-cert-file", "c", "--kafka-tls-key-file", "k", "--kafka-tls-server-name", "n")...)
	want := stream.Security{TLS: true, CAFile: "ca", CertFile: "c", KeyFile: "k", ServerName: "n", Mechanism: "SCRAM-SHA-512", Username: "u", PasswordFile: "p"}
	if err != nil || c.KafkaSecurity != want {
		t.Errorf("read as %+v, %v", c.KafkaSecurity, err)
	}
	p := process{config: c}
	for _, topic := range []stream.Config{p.stream(), p.tailStream()} {
		if topic.Security != want {
			t.Errorf("the clients of topic %s get %+v", topic.Topic, topic.Security)
		}
	}
	f := func(want string, flags ...string) {
		t.Helper()
		if _, err := parsed(t, flags...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", flags, err, want)
		}
	}
	f("without --kafka-tls", "--kafka-tls-ca-file", "ca")
	f("without --kafka-tls", "--kafka-tls-server-name", "n")
	f("are needed together", "--kafka-tls", "--kafka-tls-cert-file", "c")
	f("are needed together", "--kafka-tls", "--kafka-tls-key-file", "k")
	f("are needed together", login[:2]...)
	f("are needed together", login[:4]...)
	f("are needed together", login[2:]...)
	f("must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", append(login[2:], "--kafka-sasl-mechanism", "GSSAPI")...)
	c.Kafka = nil // the embedded broker, which has neither
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "need --kafka") {
		t.Errorf("without brokers: %v", err)
	}
}
