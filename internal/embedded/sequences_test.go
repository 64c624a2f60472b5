package embedded

import (
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// sequencer is an idempotent producer whose sequences the test chooses.
type sequencer struct {
	t        *testing.T
	client   *kgo.Client
	producer int64
	epoch    int16
}

// newSequencer asks for a producer id, or takes over that of another one.
func newSequencer(t *testing.T, addr string, like *sequencer) *sequencer {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MaxVersions(kversion.V3_0_0())) // later ones name topics by their ids
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if like != nil {
		return &sequencer{t, client, like.producer, like.epoch}
	}
	answer, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &sequencer{t, client, answer.ProducerID, answer.ProducerEpoch}
}

// send produces a batch of two records to partition 0 of "events" and returns its offset.
func (s *sequencer) send(sequence int32) (int64, error) {
	s.t.Helper()
	var records []byte
	for i := range int32(2) {
		r := kmsg.Record{OffsetDelta: i, Value: []byte("x")}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // #nosec G115 -- some bytes; the length itself takes one
		records = r.AppendTo(records)
	}
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: 1, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: s.producer, ProducerEpoch: s.epoch, FirstSequence: sequence, NumRecords: 2, Records: records,
	}
	raw := b.AppendTo(nil)
	b.Length = int32(len(raw) - batchLengthEnd)                               // #nosec G115 -- some bytes
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[atAttributes:], castagnoli)) // #nosec G115 -- the format's own width
	ask := kmsg.NewPtrProduceRequest()
	ask.Acks, ask.TimeoutMillis = -1, 5000
	topic, partition := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	topic.Topic, partition.Records = "events", b.AppendTo(nil)
	topic.Partitions = append(topic.Partitions, partition)
	ask.Topics = append(ask.Topics, topic)
	response, err := s.client.Broker(0).Request(s.t.Context(), ask)
	if err != nil {
		return 0, err
	}
	answer := response.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return answer.BaseOffset, kerr.ErrorForCode(answer.ErrorCode)
}

func (s *sequencer) mustSend(sequence int32, offset int64) {
	s.t.Helper()
	got, err := s.send(sequence)
	if err != nil || got != offset {
		s.t.Errorf("sequence %d is stored at %d, %v; want %d", sequence, got, err, offset)
	}
}

// The broker once knew after a kill only what it had known when it was last closed, and took the batch twice
// whose answer the kill had lost.
func TestBrokerRecognisesBatchesAfterAKill(t *testing.T) {
	dir := t.TempDir()
	addr, kill := brokerChild(t, dir)
	first := newSequencer(t, addr, nil)
	for i := range int32(7) { // more than a window
		first.mustSend(2*i, int64(2*i))
	}
	kill()

	addr, kill = brokerChild(t, dir)
	s := newSequencer(t, addr, first)
	s.mustSend(12, 12) // again
	s.mustSend(4, 4)   // the oldest of five
	if _, err := s.send(20); !errors.Is(err, kerr.OutOfOrderSequenceNumber) {
		t.Errorf("behind a gap: %v", err)
	}
	other := newSequencer(t, addr, nil)
	other.mustSend(0, 14)
	s.mustSend(14, 16)
	_, end := offsets(t, addr, "events", 0)
	equal(t, "end offset", end, 18)
	kill()

	// Closed and killed in turn, with a batch that the kill cut short.
	b := startBroker(t, "127.0.0.1:0", dir)
	newSequencer(t, b.Addr(), first).mustSend(14, 16)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	addr, kill = brokerChild(t, dir)
	newSequencer(t, addr, first).mustSend(16, 18)
	kill()
	segment := filepath.Join(dir, "log", "partitions", "events-0", "0"+segmentSuffix)
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segment, text[:len(text)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, "127.0.0.1:0", dir)
	_, end = offsets(t, b.Addr(), "events", 0)
	equal(t, "end offset without the torn batch", end, 18)
	s = newSequencer(t, b.Addr(), first)
	s.mustSend(14, 16)
	s.mustSend(16, 18)
	newSequencer(t, b.Addr(), other).mustSend(0, 14)
}

// The broker reads nothing behind an entry of producersFile that was cut short, and knows no sequences of producers
// that it does not find there.
func TestBrokerRecognisesBatchesOfProducersBehindATornEntry(t *testing.T) {
	dir := t.TempDir()
	events := Topic{Name: "events", Partitions: 1, Retention: time.Hour}
	b := startBroker(t, "127.0.0.1:0", dir, events)
	first, second := newSequencer(t, b.Addr(), nil), newSequencer(t, b.Addr(), nil)
	silent := newSequencer(t, b.Addr(), &sequencer{producer: 1, epoch: 3}) // just sends, with an id that the broker does not know
	for i, s := range []*sequencer{first, second, silent} {
		s.mustSend(0, int64(2*i))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "log")
	name := filepath.Join(log, producersFile)
	f := func(what string, change func([]byte) []byte) {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, change(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := restoreSequences(log); err != nil {
			t.Fatal(err)
		}
		restored, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		known, whole := readProducers(restored)
		equal(t, what+": whole bytes", whole, len(restored))
		equal(t, what+": producers", len(known), 3)
		equal(t, what+": epoch", known[1].Epoch, 3)
		b := startBroker(t, "127.0.0.1:0", dir, events)
		for i, s := range []*sequencer{first, second, silent} {
			newSequencer(t, b.Addr(), s).mustSend(0, int64(2*i))
		}
		_, end := offsets(t, b.Addr(), "events", 0)
		equal(t, what+": end offset", end, 6)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f("whole", func(text []byte) []byte { return text })
	f("the first entry is cut short", func(text []byte) []byte { return text[1:] })
	f("the last entry is cut short", func(text []byte) []byte { return text[:len(text)-1] })
	f("empty", func([]byte) []byte { return nil })
}

// A batch that the broker cuts off, because a byte of it or of one before it is damaged, must be taken when it comes again.
func TestBrokerTakesBatchesBehindADamagedOneAgain(t *testing.T) {
	dir := t.TempDir()
	events := Topic{Name: "events", Partitions: 1, Retention: time.Hour}
	b := startBroker(t, "127.0.0.1:0", dir, events)
	s := newSequencer(t, b.Addr(), nil)
	for i := range int32(3) {
		s.mustSend(2*i, int64(2*i))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	partitions := filepath.Join(dir, "log", "partitions")
	segment := filepath.Join(partitions, "events-0", "0"+segmentSuffix)
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	text[2*len(text)/3-1] ^= 1 // the end of the second of three
	if err := os.WriteFile(segment, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(partitions, "lost+found"), 0o700); err != nil { // the folder is a file system's
		t.Fatal(err)
	}
	b = startBroker(t, "127.0.0.1:0", dir, events)
	s = newSequencer(t, b.Addr(), s)
	s.mustSend(0, 0)
	s.mustSend(2, 2)
	s.mustSend(4, 4)
	_, end := offsets(t, b.Addr(), "events", 0)
	equal(t, "end offset", end, 6)
}
