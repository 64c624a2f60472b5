package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

var loopback = Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true}}

// external names brokers to run on instead of those in this process.
const external = "TIDEGATE_TEST_KAFKA"

// cluster is a broker of the test's own, or the one that external names.
func cluster(t *testing.T, opts ...kfake.Opt) (broker string) {
	t.Helper()
	if named := os.Getenv(external); named != "" && len(opts) == 0 {
		broker, _, _ = strings.Cut(named, ",")
		return broker
	}
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// topic makes one of the test's own.
func topic(t *testing.T, broker string) string { return topicOf(t, broker, nil) }

// topicOf is topic with settings.
func topicOf(t *testing.T, broker string, settings map[string]string) string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic = "logpush-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	wanted.NumPartitions, wanted.ReplicationFactor = 3, 1
	for name, value := range settings {
		setting := kmsg.NewCreateTopicsRequestTopicConfig()
		setting.Name, setting.Value = name, &value
		wanted.Configs = append(wanted.Configs, setting)
	}
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics = append(request.Topics, wanted)
	answer, err := request.RequestWith(t.Context(), client)
	if err != nil || len(answer.Topics) != 1 || answer.Topics[0].ErrorCode != 0 {
		t.Fatalf("make a topic: %v, %+v", err, answer)
	}
	return wanted.Topic
}

func open(t *testing.T, conf string, options Options) logpush.Sink {
	t.Helper()
	return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, options) }, conf)
}

// consume reads n messages of a topic.
func consume(t *testing.T, broker, topic string, n int) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []*kgo.Record
	for len(got) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d messages came: %v", len(got), n, err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

func batch(texts ...string) logpush.Object {
	o := logpush.Object{Name: "a", Records: len(texts), JobID: 7, BatchID: "7-0-100", Dataset: "workers_trace_events"}
	for i, text := range texts {
		o.Items = append(o.Items, logpush.Item{Text: []byte(text + "\n"), Time: time.UnixMilli(1714878560000 + int64(i)), Script: "shop", Version: "v1", Offset: int64(100 + i)})
	}
	return o
}

func TestEachRecordIsAMessage(t *testing.T) {
	broker := cluster(t)
	for _, compression := range []string{"zstd", "lz4", "snappy", "gzip", "none"} {
		name := topic(t, broker)
		s := open(t, "kafka://"+broker+"/"+name+"?transport=plaintext&key=script&compression="+compression, loopback)
		if !logpush.TraitsOf(s).Records {
			t.Fatal("the sink does not ask for records")
		}
		o := batch(`{"a":1}`, `{"a":2}`, `{"a":3}`)
		if err := s.Put(t.Context(), o); err != nil {
			t.Fatalf("%s: %v", compression, err)
		}
		got := consume(t, broker, name, 3)
		slices.SortFunc(got, func(a, b *kgo.Record) int { return bytes.Compare(a.Value, b.Value) })
		for i, r := range got {
			if want := strings.TrimSuffix(string(o.Items[i].Text), "\n"); string(r.Value) != want || string(r.Key) != "shop" || !r.Timestamp.Equal(o.Items[i].Time) {
				t.Errorf("message %d is %q of %q at %s", i, r.Value, r.Key, r.Timestamp)
			}
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			if diff := cmp.Diff(map[string]string{HeaderDataset: "workers_trace_events", HeaderBatchID: "7-0-100", HeaderRecord: strconv.Itoa(100 + i)}, headers); diff != "" {
				t.Error(diff)
			}
		}
	}
}

func TestARecordThatIsTooLargeIsRefusedAlone(t *testing.T) {
	broker := cluster(t)
	name := topic(t, broker)
	s := open(t, "kafka://"+broker+"/"+name+"?transport=plaintext&compression=none", loopback)
	err := s.Put(t.Context(), batch("one", strings.Repeat("x", 2<<20), "three"))
	e, ok := errors.AsType[*logpush.UploadError](err)
	if !ok || !e.Permanent || !slices.Equal(e.Records, []int{1}) {
		t.Fatalf("put returned %+v", err)
	}
	for _, r := range consume(t, broker, name, 2) {
		if v := string(r.Value); v != "one" && v != "three" {
			t.Errorf("the message %.20q arrived", v)
		}
	}
}

// A topic whose bound is lower than that of the client's batches takes them in smaller ones. It
// refused each as a whole, and all of its messages became dead letters.
func TestATopicWithALowBoundGetsSmallerBatches(t *testing.T) {
	broker := cluster(t)
	name := topicOf(t, broker, map[string]string{"max.message.bytes": "100000"})
	s := open(t, "kafka://"+broker+"/"+name+"?transport=plaintext&compression=none", loopback)
	texts := make([]string, 600)
	for i := range texts {
		texts[i] = fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000))
	}
	if err := s.Put(t.Context(), batch(texts...)); err != nil {
		t.Fatalf("put returned %+v", err)
	}
	const long = 77
	texts[long] = strings.Repeat("x", 200_000)
	err := s.Put(t.Context(), batch(texts...))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !e.Permanent || !slices.Equal(e.Records, []int{long}) {
		t.Fatalf("put returned %+v", err)
	}
	seen := map[string]int{}
	for _, r := range consume(t, broker, name, 2*len(texts)-1) {
		number, _, _ := strings.Cut(string(r.Value), " ")
		seen[number]++
	}
	for i := range texts {
		if got := seen[strconv.Itoa(i)]; got != 2 && (i != long || got != 1) {
			t.Errorf("message %d arrived %d times", i, got)
		}
	}
}

// The pieces that a topic of small batches needs were counted as those of the search for bad messages: behind the 200th,
// messages became dead letters that it would have taken.
func TestABadMessageIsFoundAlsoWhereBatchesAreSmall(t *testing.T) {
	const bad = 950
	b := refusing(t, func(records []byte) error {
		switch {
		case len(records) > 600: // two messages and their headers
			return kerr.MessageTooLarge
		case bytes.Contains(records, []byte("message 950 ")):
			return kerr.InvalidRecord
		}
		return nil
	})
	texts := make([]string, bad+50)
	for i := range texts {
		texts[i] = fmt.Sprintf("message %d %s", i, strings.Repeat("x", 100))
	}
	err := open(t, "kafka://"+b.address+"/in?transport=plaintext&compression=none", loopback).Put(t.Context(), batch(texts...))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !e.Permanent || !slices.Equal(e.Records, []int{bad}) {
		t.Errorf("put returned %+v", err)
	}
}

// A topic may refuse messages for their age, which no other try changes: the job stood still.
// Of a batch that is too old as a whole they are not looked for one by one.
func TestMessagesThatAreTooOldAreRefused(t *testing.T) {
	b := refusing(t, func([]byte) error { return kerr.InvalidTimestamp })
	texts := make([]string, 1000)
	err := open(t, "kafka://"+b.address+"/in?transport=plaintext", loopback).Put(t.Context(), batch(texts...))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !e.Permanent || len(e.Records) != len(texts) || !strings.Contains(e.Text, "INVALID_TIMESTAMP") {
		t.Errorf("put returned %+v", err)
	}
	if got, most := b.asked.Load(), int64(4*splitsMax); got > most { // each split is two tries, which a slow client may send in parts
		t.Errorf("it was asked %d times, want %d at most", got, most)
	}
}

// Each try has its time, however many the search needs. One that took longer than one try may
// was given up, and the batch came again from its start, for ever, with what had been taken.
func TestALongSearchComesToItsEnd(t *testing.T) {
	texts := make([]string, 16)
	for i := range texts {
		texts[i] = strconv.Itoa(i)
	}
	texts[5] = strings.Repeat("x", 5000)
	for try := 2 * time.Second; ; try *= 5 { // for a machine that stands still for longer than one try may take
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "in"), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "3000"}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			<-time.After(try * 3 / 20)
			return nil, nil, false
		})
		s := open(t, "kafka://"+c.ListenAddrs()[0]+"/in?transport=plaintext&compression=none", loopback).(*sink)
		s.try = try
		err = s.Put(t.Context(), batch(texts...))
		if e, ok := errors.AsType[*logpush.UploadError](err); ok && slices.Equal(e.Records, []int{5}) {
			return
		}
		if t.Logf("put returned %+v", err); try > 5*time.Second {
			t.Fatal("the search did not come to its end")
		}
	}
}

func TestTroubleThatMayPassIsNotPermanent(t *testing.T) {
	f := func(what, conf string, options Options) {
		t.Helper()
		err := open(t, conf, options).Put(t.Context(), batch("one"))
		if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || e.Text == "" {
			t.Errorf("%s: put returned %+v", what, err)
		}
	}
	broker := cluster(t)
	f("an unknown topic", "kafka://"+broker+"/nowhere?transport=plaintext", loopback)
	f("nobody listens", "kafka://127.0.0.1:1/x?transport=plaintext", loopback)
	f("no TLS there", "kafka://"+broker+"/x", Options{Egress: egress.Policy{AllowLoopback: true, NoProgress: time.Second}})
}

func TestLoginByPassword(t *testing.T) {
	broker := cluster(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "admin", "admin-password"), kfake.Superuser("PLAIN", "plain", "plain-password"),
		kfake.SeedTopics(1, "in"))
	base := "kafka://" + broker + "/in?transport=plaintext&sasl-mechanism="
	for _, login := range []string{"SCRAM-SHA-512&username=admin&password=admin-password", "PLAIN&username=plain&password=plain-password"} {
		if err := open(t, base+login, loopback).Put(t.Context(), batch("one")); err != nil {
			t.Errorf("%s: %v", login, err)
		}
	}
	err := open(t, base+"PLAIN&username=plain&password=revoked", loopback).Put(t.Context(), batch("one"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || strings.Contains(e.Text, "revoked") {
		t.Errorf("a wrong password gave %+v", err)
	}
}

func TestPrivateBrokersAreRefused(t *testing.T) {
	broker := cluster(t)
	err := open(t, "kafka://"+broker+"/x?transport=plaintext", Options{Egress: egress.Policy{AllowHTTP: true}}).Put(t.Context(), batch("one"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !e.Permanent || !strings.Contains(e.Text, "not allowed") {
		t.Errorf("put returned %+v", err)
	}
}

func TestAnEndedContext(t *testing.T) {
	broker := cluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, "kafka://"+broker+"/x?transport=plaintext", loopback).Put(ctx, batch("one")); !errors.Is(err, context.Canceled) {
		t.Errorf("put returned %v", err)
	}
}

func TestBadSettings(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		sinktest.Refused(t, func(u *url.URL) (logpush.Sink, error) { return New(u, Options{}) }, conf, want)
	}
	f("kafka://b:9092/", "kafka://<broker>:<port>/<topic>")
	f("kafka://b:9092/a/b", "kafka://<broker>:<port>/<topic>")
	f("kafka://b:9092/{DATE}", "kafka://<broker>:<port>/<topic>")
	f("kafka://u:p@b:9092/t", "username and password as parameters")
	f("kafka://b/t", "host:port")
	f("kafka://b:9092/t?brokers=c", "host:port")
	f("kafka://b:9092/t?acks=1", `"acks" is not known`)
	f("kafka://b:9092/t?key=a&key=b", "given twice")
	f("kafka://b:9092/t?key=ray", "none, script and version")
	f("kafka://b:9092/t?transport=plaintext", "not allowed here")
	f("kafka://b:9092/t?transport=quic", "tls and plaintext")
	f("kafka://b:9092/t?compression=br", "zstd")
	f("kafka://b:9092/t?username=u", "username and password")
	f("kafka://b:9092/t?username=u&password=p&sasl-mechanism=GSSAPI", "SCRAM-SHA-512")
}
