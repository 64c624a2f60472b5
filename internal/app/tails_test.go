package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/internal/deploy"
	"tidegate/internal/embedded"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// startBroker is a Kafka that can be stopped, and started again on what it had.
func startBroker(t *testing.T, addr, dir string) *embedded.Broker {
	t.Helper()
	broker, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{
		Addr: addr, DataDir: dir, Topics: []embedded.Topic{{Name: schema.TailTopic, Partitions: 2, Retention: TailRetention}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	})
	return broker
}

// viewing is one call of Tail.
type viewing struct {
	mu      sync.Mutex
	got     []string // values, addresses before them, and notices
	stop    context.CancelFunc
	stopped chan error
}

func view(t *testing.T, f *tailFeed, accountID, script string) *viewing {
	ctx, cancel := context.WithCancel(t.Context())
	v := &viewing{stop: cancel, stopped: make(chan error, 1)}
	go func() {
		v.stopped <- f.Tail(ctx, accountID, script, func(m deploy.TailMessage) {
			v.mu.Lock()
			defer v.mu.Unlock()
			if m.Notice != "" {
				v.got = append(v.got, "! "+m.Notice)
				return
			}
			v.got = append(v.got, m.ClientIP+" "+string(m.Value))
		})
	}()
	eventually(t, func() error {
		f.mu.RLock()
		defer f.mu.RUnlock()
		for w := range f.watchers[watched{accountID, script}] {
			if w != nil {
				return nil
			}
		}
		return errors.New("nobody watches")
	})
	return v
}

func (v *viewing) leave(t *testing.T) {
	t.Helper()
	v.stop()
	if err := <-v.stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("Tail returned %v", err)
	}
}

func (v *viewing) want(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want) // partitions have no order among them
	eventually(t, func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if got := slices.Sorted(slices.Values(v.got)); !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// produce writes one record for a script, with the headers that it is said to have.
func produce(t *testing.T, addr string, partition int, value string, headers ...string) {
	t.Helper()
	produceAt(t, addr, time.Now(), partition, value, headers...)
}

func produceAt(t *testing.T, addr string, at time.Time, partition int, value string, headers ...string) {
	t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections() // the default one looks for the broker for ever, also where another server is by then
	client := &kafka.Client{Addr: kafka.TCP(addr), Timeout: 5 * time.Second, Transport: transport}
	eventually(t, func() error {
		record := kafka.Record{Time: at, Value: kafka.NewBytes([]byte(value))} // is read once
		for i := 0; i < len(headers); i += 2 {
			record.Headers = append(record.Headers, kafka.Header{Key: headers[i], Value: []byte(headers[i+1])})
		}
		answer, err := client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: schema.TailTopic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(record),
		})
		if err == nil {
			err = answer.Error
		}
		return err
	})
}

func named(accountID, script, clientIP string) []string {
	return []string{schema.HeaderAccount, accountID, schema.HeaderScript, script, schema.HeaderClientIP, clientIP}
}

func (f *tailFeed) reads() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.stop != nil
}

func TestViewersGetTheirScriptsEvents(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0", t.TempDir())
	f, err := newTailFeed(stream.Config{Brokers: []string{broker.Addr()}, Topic: schema.TailTopic}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	produceAt(t, broker.Addr(), time.Now().Add(-time.Second), 0, "before anybody watched", named("a", "shop", "")...)
	if f.reads() {
		t.Fatal("the topic is read for nobody")
	}
	one, two := view(t, f, "a", "shop"), view(t, f, "a", "shop")
	front, foreign := view(t, f, "a", "front"), view(t, f, "b", "shop")
	produce(t, broker.Addr(), 0, "1", named("a", "shop", "192.0.2.7")...)
	produce(t, broker.Addr(), 1, "2", named("a", "shop", "")...)
	produce(t, broker.Addr(), 1, "3", named("a", "front", "")...)
	produce(t, broker.Addr(), 0, "nobody's", named("c", "shop", "")...)
	produce(t, broker.Addr(), 0, "unnamed")
	one.want(t, "192.0.2.7 1", " 2")
	two.want(t, "192.0.2.7 1", " 2")
	front.want(t, " 3")
	foreign.want(t)

	two.leave(t)
	front.leave(t)
	foreign.leave(t)
	produce(t, broker.Addr(), 0, "4", named("a", "shop", "")...)
	one.want(t, "192.0.2.7 1", " 2", " 4")
	two.want(t, "192.0.2.7 1", " 2")
	one.leave(t)
	if f.reads() || len(f.watchers) != 0 {
		t.Errorf("the topic is read for nobody: %v", f.watchers)
	}
}

func TestViewersAreToldOfAnOutage(t *testing.T) {
	dir := t.TempDir()
	broker := startBroker(t, "127.0.0.1:0", dir)
	f, err := newTailFeed(stream.Config{Brokers: []string{broker.Addr()}, Topic: schema.TailTopic}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v := view(t, f, "a", "shop")
	produce(t, broker.Addr(), 0, "1", named("a", "shop", "")...)
	v.want(t, " 1")
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	const away, back = "! Kafka cannot be read at the moment: events will go on when it can",
		"! Kafka can be read again: events go on, from where they stopped if that is still kept"
	v.want(t, " 1", away)
	again := startBroker(t, broker.Addr(), dir)
	produce(t, again.Addr(), 1, "2", named("a", "shop", "")...)
	v.want(t, " 1", away, back, " 2")
	v.leave(t)
	for _, text := range v.got {
		if strings.Contains(text, "127.0.0.1") {
			t.Errorf("a viewer is told of addresses: %q", text)
		}
	}
}
