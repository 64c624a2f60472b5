package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// TestMain ends the cluster, which there is where TIDEGATE_TEST_KAFKA_CLUSTER is set.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := CloseShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the cluster:", err)
		code = 1
	}
	os.Exit(code)
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// topic makes one with a partition led by each broker.
func topic(t *testing.T, c *Cluster, name string) {
	t.Helper()
	answer, err := c.client().CreateTopics(testContext(t), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: name, NumPartitions: 3, ReplicationFactor: 3,
	}}})
	if err == nil {
		err = answer.Errors[name]
	}
	if err == nil {
		err = c.Heal(testContext(t))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestBrokersComeAndGo(t *testing.T) {
	c := ForTest(t)
	topic(t, c, "comes-and-goes")
	ctx := testContext(t)
	for _, take := range []func(int) error{c.Kill, c.Pause} {
		was, err := c.Leader(ctx, "comes-and-goes", 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := take(was); err != nil {
			t.Fatal(err)
		}
		for is := was; is == was; {
			if ctx.Err() != nil {
				t.Fatalf("broker %d was taken away and still leads", was)
			}
			if now, err := c.Leader(ctx, "comes-and-goes", 0); err == nil {
				is = now
			}
		}
		if err := c.Heal(ctx); err != nil {
			t.Fatal(err)
		}
		if is, err := c.Leader(ctx, "comes-and-goes", 0); err != nil || is != was {
			t.Errorf("after healing broker %d leads (%v), want %d again", is, err, was)
		}
	}
	for _, id := range c.Brokers() {
		if err := c.Kill(id); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Leader(ctx, "comes-and-goes", 0); err == nil {
		t.Error("a broker answers though all were killed")
	}
	if err := c.Restart(ctx, c.Brokers()...); err != nil {
		t.Fatal(err)
	}
}

func TestEveryListenerLetsItsClientsIn(t *testing.T) {
	c := ForTest(t)
	a := c.Access()
	authorities := x509.NewCertPool()
	if text, err := os.ReadFile(a.CAFile); err != nil || !authorities.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(a.PasswordFile)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, addrs []string, certificates []tls.Certificate, mechanism sasl.Mechanism, allowed bool) {
		t.Helper()
		for _, addr := range addrs {
			dialer := &kafka.Dialer{Timeout: 10 * time.Second, SASLMechanism: mechanism}
			if what != "plaintext" {
				dialer.TLS = &tls.Config{RootCAs: authorities, Certificates: certificates}
			}
			conn, err := dialer.DialContext(testContext(t), "tcp", addr)
			if err == nil {
				_, err = conn.ReadPartitions()
				_ = conn.Close()
			}
			if (err == nil) != allowed {
				t.Errorf("%s at %s: %v", what, addr, err)
			}
		}
	}
	f("plaintext", a.Plaintext, nil, nil, true)
	f("with a certificate", a.MutualTLS, []tls.Certificate{pair}, nil, true)
	f("without a certificate", a.MutualTLS, nil, nil, false)
	f("PLAIN", a.SASL, nil, plain.Mechanism{Username: a.Username, Password: string(password)}, true)
	f("PLAIN, wrong", a.SASL, nil, plain.Mechanism{Username: a.Username, Password: "wrong"}, false)
	for _, algorithm := range []scram.Algorithm{scram.SHA256, scram.SHA512} {
		for password, allowed := range map[string]bool{string(password): true, "wrong": false} {
			mechanism, err := scram.Mechanism(algorithm, a.Username, password)
			if err != nil {
				t.Fatal(err)
			}
			f(algorithm.Name(), a.SASL, nil, mechanism, allowed)
		}
	}
}
