package logpush

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// shelf is a topic on a broker in this process whose partition 3, a reader's, is filled
// with batches as producers of all kinds make them. The memory has the same records, and
// the offsets that deliveries commit.
type shelf struct {
	t       *testing.T
	brokers []string
	client  *kgo.Client // does not compress
	topic   string
	reader  *stream.Reader
	memory  *memory
	dice    *rand.Rand
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s := &shelf{t: t, brokers: cluster.ListenAddrs(), topic: "events", memory: newMemory(), dice: rand.New(rand.NewPCG(1, 2))}
	config := stream.Config{Brokers: s.brokers, Topic: s.topic}
	if err := stream.EnsureTopic(t.Context(), config, 4, 1, 0); err != nil {
		t.Fatal(err)
	}
	if s.reader, err = stream.NewReader(config, quiet); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.reader.Close)
	s.client = s.producer(kgo.NoCompression())
	return s
}

func (s *shelf) producer(codec kgo.CompressionCodec) *kgo.Client {
	s.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxVersions(kversion.V3_0_0())) // in which topics have names
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	return client
}

// put adds n events with names of up to some hundred random letters by a producer.
func (s *shelf) put(client *kgo.Client, n int) {
	s.t.Helper()
	var records []*kgo.Record
	for range n {
		name := make([]byte, s.dice.IntN(600))
		for i := range name {
			name[i] = byte('a' + s.dice.IntN(26))
		}
		e := schema.TraceEvent{ScriptName: string(name), EventTimestampMs: 1, EventType: "fetch", Outcome: "ok", WallTimeMs: new(s.memory.next)}
		value := e.AppendJSON(nil)
		records = append(records, &kgo.Record{Topic: s.topic, Partition: 3, Value: value, Headers: []kgo.RecordHeader{{Key: schema.HeaderAccount, Value: []byte(account)}}})
		s.memory.append(account, value, time.Now())
	}
	if err := client.ProduceSync(s.t.Context(), records...).FirstErr(); err != nil {
		s.t.Fatal(err)
	}
}

// spoil adds a batch of n records that cannot be decoded.
func (s *shelf) spoil(n int) {
	s.t.Helper()
	if got := spoil(s.t, s.client, s.topic, 3, n); got != s.memory.next {
		s.t.Fatalf("the broker puts the batch at offset %d", got)
	}
	for range n {
		s.memory.append("somebody else", nil, time.Now())
	}
}

// spoil writes a batch of n records that says zstd has compressed it, which is not so, and
// returns its offset.
func spoil(t *testing.T, client *kgo.Client, topic string, partition int32, n int) int64 {
	t.Helper()
	batch := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: 4, LastOffsetDelta: int32(n - 1), FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: []byte("these are no records")}
	const atLength, behindLength, atChecksum, behindChecksum = 8, 12, 17, 21
	data := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(data[atLength:], uint32(len(data)-behindLength))
	binary.BigEndian.PutUint32(data[atChecksum:], crc32.Checksum(data[behindChecksum:], crc32.MakeTable(crc32.Castagnoli)))
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, data
	of := kmsg.NewProduceRequestTopic()
	of.Topic, of.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	ask := kmsg.NewPtrProduceRequest()
	ask.Acks, ask.TimeoutMillis, ask.Topics = -1, 1000, []kmsg.ProduceRequestTopic{of}
	answer, err := ask.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	got := answer.Topics[0].Partitions[0]
	if got.ErrorCode != 0 {
		t.Fatalf("the broker refuses the batch with error %d", got.ErrorCode)
	}
	return got.BaseOffset
}

// world is a delivery that reads what is on the shelf, through chunks that it may share.
func (s *shelf) world(id int64, with *chunks) *world {
	w := newWorld(s.t)
	w.memory, w.chunks = own(s.memory), with
	w.job = job(id)
	w.job.EnabledAt = time.UnixMilli(1)
	w.memory.committed, w.memory.ok = 0, true
	w.memory.metadata = mark{EnabledAt: w.job.EnabledAt.UnixMicro()}.String()
	return w
}

// want is what the job makes of the records of the shelf from an offset up to another.
func (s *shelf) want(j logjob.Job, from, to int64) string {
	s.t.Helper()
	format, err := j.Format()
	if err != nil {
		s.t.Fatal(err)
	}
	filter, err := logjob.ParseFilter(j.Filter)
	if err != nil {
		s.t.Fatal(err)
	}
	var text []byte
	for _, r := range s.memory.records[from:to] {
		var record logjob.Record
		if r.Account == account && record.Split(r.Value) == nil && filter.Match(&record) {
			text = format.AppendRecord(text, &record)
		}
	}
	return string(text)
}

// delivers waits until a bucket has so many records.
func (w *world) delivers(t *testing.T, records int) {
	t.Helper()
	eventually(t, func() error {
		w.bucket.mu.Lock()
		defer w.bucket.mu.Unlock()
		got := 0
		for _, o := range w.bucket.objects {
			got += o.Records
		}
		if got < records {
			return fmt.Errorf("job %d delivered %d of %d records", w.job.ID, got, records)
		}
		return nil
	})
}

// Jobs with different fields read the same batches, of each codec, at the same time; one
// of them lags. The memory of chunks is used again all the while, and no job gets a byte
// of what lay there before or comes after.
func TestJobsShareBatchesOfEachCodec(t *testing.T) {
	s := newShelf(t)
	var producers []*kgo.Client
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()} {
		producers = append(producers, s.producer(codec))
	}
	for range 5 {
		for i, p := range producers {
			s.put(p, 40+17*i)
		}
	}
	total := int(s.memory.next)
	with := newChunks(s.reader, 500_000, mustMetrics(t)) // some chunks
	hang := make(chan struct{})
	var worlds []*world
	var runs []*run
	for i, fields := range [][]string{{"WallTimeMs", "ScriptName"}, {"ScriptName", "Outcome"}, {"WallTimeMs"}, {"EventType", "ScriptName"}} {
		w := s.world(int64(i+1), with)
		w.job.OutputOptions.FieldNames = fields
		w.job.MaxUploadRecords = ptr(int64(300))
		w.parallel = 1 + i%3
		if i == 0 {
			w.bucket.hang = hang
		}
		worlds = append(worlds, w)
	}
	last := (total - 1) / 300 * 300 // what is behind it leaves at the stop
	for _, w := range worlds {
		runs = append(runs, w.start())
	}
	for _, w := range worlds[1:] {
		w.delivers(t, last)
	}
	close(hang)
	worlds[0].delivers(t, last)
	for _, w := range worlds {
		eventually(t, func() error { // the rest is in the window
			with.mu.Lock()
			defer with.mu.Unlock()
			for _, seat := range with.seats[3] {
				if seat.position < int64(total) {
					return fmt.Errorf("job %d is at offset %d of %d", w.job.ID, seat.position, total)
				}
			}
			return nil
		})
	}
	for i, w := range worlds {
		runs[i].stop()
		if got := sorted(w.bucket.text(t)); got != sorted(s.want(w.job, 0, int64(total))) {
			t.Errorf("job %d delivered %d bytes, or others than it should", w.job.ID, len(got))
		}
	}
	with.close()
	if len(with.spare) == 0 || len(with.spare) > cap(with.desks) {
		t.Errorf("%d chunks' memory is kept", len(with.spare))
	}
}

// sorted has the lines of a text in order: batches may be uploaded side by side.
func sorted(text string) string {
	list := strings.SplitAfter(text, "\n")
	slices.Sort(list)
	return strings.Join(list, "")
}

// The story: a batch that could not be decoded ended the delivery, over and over, and
// what lay before it in the window was never sent, nor what came after it.
func TestABatchThatCannotBeDecodedIsPassed(t *testing.T) {
	metrics := readMetrics(t)
	s := newShelf(t)
	s.put(s.client, 300)
	s.spoil(5)
	s.put(s.client, 300)
	s.spoil(2)
	s.spoil(3) // right behind it
	s.put(s.client, 100)
	w := s.world(1, nil)
	w.job.MaxUploadRecords = ptr(int64(200))
	w.chunks = newChunks(s.reader, 1<<20, mustMetrics(t))
	r := w.start()
	w.delivers(t, 600)
	eventually(t, func() error {
		w.chunks.mu.Lock()
		defer w.chunks.mu.Unlock()
		if at := w.chunks.seats[3][0].position; at < s.memory.next {
			return fmt.Errorf("the delivery is at offset %d of %d", at, s.memory.next)
		}
		return nil
	})
	r.stop()
	if r.err != nil {
		t.Errorf("the delivery ended: %v", r.err)
	}
	if got, want := w.bucket.text(t), s.want(w.job, 0, s.memory.next); got != want {
		t.Errorf("%d bytes were delivered, want %d, or they differ", len(got), len(want))
	}
	if got := w.memory.offset(); got != s.memory.next {
		t.Errorf("committed %d, want %d", got, s.memory.next)
	}
	for _, words := range []string{
		"lost up to 5 records of partition 3, offsets 300 to 304: decode the batch at offset 300: ",
		"lost up to 5 records of partition 3, offsets 605 to 609: decode the batch at offset 605: ",
	} {
		if log := w.log.String(); strings.Count(log, words) != 1 {
			t.Errorf("the log has %d times %q:\n%s", strings.Count(log, words), words, log)
		}
	}
	w.told(t, "offsets 605 to 609")
	if got := dropped(t, metrics, w.job.ID)[droppedUndecodable]; got != 10 {
		t.Errorf("%d are counted as undecodable, want 10", got)
	}
}

// A process dies with an upload under way whose window goes over such a batch. The next
// one builds the same object, and counts nothing again.
func TestAWindowOverABatchThatCannotBeDecodedIsBuiltAgain(t *testing.T) {
	metrics := readMetrics(t)
	s := newShelf(t)
	s.put(s.client, 150)
	s.spoil(5)
	s.put(s.client, 250)
	w := s.world(1, nil)
	w.job.MaxUploadRecords = ptr(int64(200))
	w.chunks = newChunks(s.reader, 1<<20, mustMetrics(t))
	tried := make(chan Object, 1)
	w.bucket.after = func(o Object) error {
		select {
		case tried <- o:
		default:
		}
		return errors.New("the answer was lost")
	}
	r := w.start()
	first := <-tried
	r.kill()
	w.bucket.mu.Lock()
	w.bucket.after = nil
	w.bucket.mu.Unlock()
	w.chunks = newChunks(s.reader, 1<<20, mustMetrics(t))
	r = w.start()
	w.delivers(t, 400)
	r.stop()
	if again := w.bucket.objects[first.Name]; string(again.Body) != string(first.Body) || first.Records != 200 {
		t.Errorf("%s has %d records, and had %d", first.Name, again.Records, first.Records)
	}
	if names := w.bucket.names(); len(names) != 2 {
		t.Errorf("the objects are %v", names)
	}
	if got, want := w.bucket.text(t), s.want(w.job, 0, s.memory.next); got != want {
		t.Errorf("%d bytes were delivered, want %d, or they differ", len(got), len(want))
	}
	if got := dropped(t, metrics, w.job.ID)[droppedUndecodable]; got != 5 {
		t.Errorf("%d are counted as undecodable, want 5", got)
	}
}

func mustMetrics(t *testing.T) *metrics {
	t.Helper()
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
