package stream

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	produceKey        = 0
	initProducerIDKey = 22
)

// lossyConn is a connection to a broker that breaks at some produce requests: in the
// middle of the request, or when the answer comes, of which nobody hears then.
type lossyConn struct {
	net.Conn
	begins      bool // the next Write begins a request
	loseAnswer  bool
	loseRequest bool
}

var errCut = errors.New("the connection was cut")

func (c *lossyConn) Write(b []byte) (int, error) {
	if c.begins {
		c.begins = false
		if isProduce := len(b) > 6 && binary.BigEndian.Uint16(b[4:]) == produceKey; isProduce {
			switch rand.N(8) {
			case 0, 1:
				c.loseAnswer = true
			case 2:
				c.loseRequest = true
			}
		}
	}
	if c.loseRequest {
		n, _ := c.Conn.Write(b[:len(b)/2])
		return n, errors.Join(errCut, c.Close())
	}
	return c.Conn.Write(b)
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.begins = true
	if c.loseAnswer && n > 0 {
		return 0, errors.Join(errCut, c.Close())
	}
	return n, err
}

// lossy makes p's connections so.
func lossy(p *Producer) *Producer {
	p.client.Transport.(*kafka.Transport).Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := p.cfg.Security.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &lossyConn{Conn: conn, begins: true}, nil
	}
	return p
}

// recordsIn counts what was ever written to the topic.
func recordsIn(t testing.TB, cfg Config) (n int64) {
	t.Helper()
	client := newClient(cfg)
	defer closeClient(client)
	partitions, err := topicPartitions(testContext(t), client, cfg.Topic)
	noError(t, err)
	for _, of := range partitions {
		listed, err := listOffsets(testContext(t), client, cfg.Topic, []kafka.OffsetRequest{kafka.LastOffsetOf(of.ID)})
		noError(t, err)
		n += listed[of.ID].LastOffset
	}
	return n
}

// requireOnce waits until p has sent n events, and requires that the topic has each once.
func requireOnce(t *testing.T, cfg Config, s *seen, n int, p *Producer) {
	t.Helper()
	eventually(t, "everything is sent", func() error {
		if stats := p.Stats(); stats.EventsOut != uint64(n) || stats.SpoolBytes != 0 {
			return fmt.Errorf("%d events: %+v", n, stats)
		}
		return nil
	})
	if written := recordsIn(t, cfg); written != int64(n) {
		t.Errorf("the topic has %d records of %d events", written, n)
	}
	s.requireEach(t, n, p)
}

func TestEventsOfLostAnswersAreWrittenOnce(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(3)
		producerConfig := testProducer(t, cfg, t.TempDir())
		producerConfig.BatchEventsMax = 10
		p := lossy(newProducer(t, producerConfig))
		run(t, p.Run)
		s := consume(t, cfg)
		const n = 600
		for i := range n {
			p.Emit("acme", fmt.Appendf(nil, "%d", i))
			if i%50 == 0 { // so that some go straight to Kafka
				time.Sleep(2 * time.Millisecond)
			}
		}
		requireOnce(t, cfg, s, n, p)
		if stats := p.Stats(); stats.EventsSpooled == 0 {
			t.Errorf("no answer was lost: %+v", stats)
		}
	})
}

// A process that died between Kafka's answer and the note of it sends the batch again.
func TestSpooledBatchThatKafkaHasIsNotWrittenAgain(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(2)
		dir := t.TempDir()
		s := mustOpenSpool(t, dir, 1<<20)
		mustAppend(t, s, encode([]event{{timeMS: time.Now().UnixMilli(), account: "acme", value: []byte("1")}}, "1"),
			encode([]event{{timeMS: time.Now().UnixMilli(), account: "acme", value: []byte("2")}}, "1"))
		noError(t, s.close())
		for died := range 2 {
			p := newProducer(t, testProducer(t, cfg, dir))
			next, _, _, err := p.spool.next()
			noError(t, err)
			rest, err := p.deliver(testContext(t), []batch{next}, p.spool)
			if err != nil || len(rest) != 0 {
				t.Fatalf("life %d: %d left, %v", died, len(rest), err)
			}
			noError(t, p.spool.close()) // without took
			closeClient(p.client)
		}
		if n := recordsIn(t, cfg); n != 1 {
			t.Fatalf("a batch of one event is there %d times", n)
		}
		p := newProducer(t, testProducer(t, cfg, dir))
		run(t, p.Run)
		requireOnce(t, cfg, consume(t, cfg), 2, p)
	})
}

// producerArgument makes this binary a producer whose answers get lost, for tests to kill;
// its next arguments are a ProducerConfig and the number of its first event.
const producerArgument = "lossy-producer"

func runProducer(text, first string) error {
	var cfg ProducerConfig
	var n int
	if _, err := fmt.Sscan(first, &n); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	cfg.Logger = quiet
	p, err := NewProducer(cfg)
	if err != nil {
		return err
	}
	lossy(p)
	go func() {
		for ; ; n++ {
			p.Emit("acme", fmt.Appendf(nil, "%d", n))
			if n%10 == 0 {
				time.Sleep(time.Millisecond)
			}
			if n%100 == 0 {
				s := p.Stats()
				fmt.Println(s.EventsOut, s.EventsSpooled)
			}
		}
	}()
	return p.Run(context.Background())
}

func TestKilledProducerLeavesNothingThatIsWrittenTwice(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(3)
		config := testProducer(t, cfg, t.TempDir())
		config.BatchEventsMax, config.Logger = 20, nil
		text, err := json.Marshal(config)
		noError(t, err)
		for round := range 2 {
			cmd := exec.CommandContext(testContext(t), os.Args[0], producerArgument, string(text), fmt.Sprint(round*1_000_000)) // #nosec G204 -- this binary
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			noError(t, err)
			noError(t, cmd.Start())
			var sent, spooled int
			for lines := bufio.NewScanner(out); (sent < 300 || spooled < 100) && lines.Scan(); {
				if _, err := fmt.Sscan(lines.Text(), &sent, &spooled); err != nil {
					t.Errorf("%q: %v", lines.Text(), err)
				}
			}
			noError(t, cmd.Process.Kill())
			_ = cmd.Wait() // killed
			if sent < 300 || spooled < 100 {
				t.Fatalf("round %d: it ended after %d events were sent and %d spooled", round, sent, spooled)
			}
		}
		p := newProducer(t, testProducer(t, cfg, config.SpoolDir))
		run(t, p.Run)
		s := consume(t, cfg)
		eventually(t, "the spool is empty and everything is read", func() error {
			if written, stats := recordsIn(t, cfg), p.Stats(); stats.SpoolBytes != 0 || s.records() < written {
				return fmt.Errorf("read %d of %d: %+v", s.records(), written, stats)
			}
			return nil
		})
		if written, different := s.records(), s.count(); written != int64(different) || different < 2*300 {
			t.Errorf("%d records of %d events", written, different)
		}
	})
}

// boundBatch makes a batch of one event that is under way to a partition.
func boundBatch(value string, at time.Time, id identity) batch {
	b := encode([]event{{timeMS: at.UnixMilli(), account: "acme", value: []byte(value)}}, "1")
	b.bind(&id)
	return b
}

// mustDeliver requires that b is sent, and returns how many events may be there twice.
func mustDeliver(t *testing.T, p *Producer, b batch) uint64 {
	t.Helper()
	before := p.Stats().EventsRepeatPossible
	if _, err := p.deliver(testContext(t), []batch{b}, nil); err != nil {
		t.Fatal(err)
	}
	return p.Stats().EventsRepeatPossible - before
}

// Whatever Kafka knows of a batch that comes again: it arrives, and counts as possibly
// repeated when nobody can know.
func TestBatchWhoseIdentityIsNotRecognised(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(2)
		p := newProducer(t, testProducer(t, cfg, t.TempDir()))
		defer closeClient(p.client)
		defer func() { noError(t, p.spool.close()) }()
		now, records := time.Now(), int64(0)
		cluster, _, err := topicMetadata(testContext(t), p.client, cfg.Topic)
		noError(t, err)
		session := func() identity {
			t.Helper()
			used, refused, err := initProducer(testContext(t), p.client)
			noError(t, errors.Join(refused, err))
			return identity{cluster, used.producer, used.epoch, 0, 1}
		}
		f := func(what string, b batch, possible uint64, more int64) {
			t.Helper()
			if got := mustDeliver(t, p, b); got != possible {
				t.Errorf("%s: %d events count as possibly repeated, want %d", what, got, possible)
			}
			records += more
			if got := recordsIn(t, cfg); got != records {
				t.Errorf("%s: the topic has %d records, want %d", what, got, records)
				records = got
			}
		}
		id := session()
		f("first", boundBatch("1", now, id), 0, 1)
		f("duplicate", boundBatch("1", now, id), 0, 0)
		f("duplicate that is older than Kafka remembers for sure", boundBatch("1", now.Add(-25*time.Hour), id), 1, 0)
		id.sequence = 7
		f("what came before is missing", boundBatch("2", now, id), 0, 1)
		id = session()
		id.epoch = 5
		f("first of an epoch", boundBatch("3", now, id), 0, 1)
		id.epoch = 4
		f("of an epoch before", boundBatch("4", now, id), 1, 1)
		id = session()
		id.partition = 99
		f("the topic has become smaller", boundBatch("5", now, id), 1, 1)
		id = session()
		f("first of another producer", boundBatch("6", now, id), 0, 1)
		id.cluster = clusterOf("another")
		f("the cluster is another, and has that producer id", boundBatch("7", now, id), 1, 1)
	})
}

// While Kafka refuses producer ids, events flow, and those sent again are counted; once
// it gives them, they are recognised.
func TestRefusedProducerIDs(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(2)
	b.control(initProducerIDKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		answer := kmsg.NewPtrInitProducerIDResponse()
		answer.Version, answer.ErrorCode = 4, kerr.ClusterAuthorizationFailed.Code
		return answer, nil, true
	})
	config := testProducer(t, cfg, t.TempDir())
	config.BatchEventsMax = 10
	p := lossy(newProducer(t, config))
	run(t, p.Run)
	const n = 200
	for i := range n {
		p.Emit("acme", fmt.Appendf(nil, "%d", i))
	}
	eventually(t, "everything is sent, and an answer was lost", func() error {
		stats := p.Stats()
		if stats.EventsOut != stats.EventsIn || stats.SpoolBytes != 0 || stats.EventsRepeatPossible == 0 || !stats.ProducerIDsRefused {
			if stats.EventsOut == stats.EventsIn {
				p.Emit("acme", []byte("more"))
			}
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	stats := p.Stats()
	if written := uint64(recordsIn(t, cfg)); written > stats.EventsOut+stats.EventsRepeatPossible {
		t.Errorf("%d records of %d events, of which %d may be there twice", written, stats.EventsOut, stats.EventsRepeatPossible)
	}
	b.stop()
	b.start() // without that rule
	p.sessions.asking.Lock()
	p.sessions.asked = time.Time{} // a minute ago
	p.sessions.asking.Unlock()
	eventually(t, "producer ids are there", func() error {
		p.Emit("acme", []byte("more"))
		if stats := p.Stats(); stats.ProducerIDsRefused {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	eventually(t, "everything is sent", func() error {
		if stats := p.Stats(); stats.EventsOut != stats.EventsIn || stats.SpoolBytes != 0 {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	stats = p.Stats()
	if written := uint64(recordsIn(t, cfg)); written < stats.EventsOut || written > stats.EventsOut+stats.EventsRepeatPossible {
		t.Errorf("%d records of %d events, of which %d may be there twice", written, stats.EventsOut, stats.EventsRepeatPossible)
	}
}

// The embedded broker, its disk full, once noted the sequence of a batch that it could not
// store. It would have confirmed the batch when it came again, without having it.
func TestBatchThatTheLeaderFailedToStoreComesUnderAnotherIdentity(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	p := newProducer(t, testProducer(t, cfg, t.TempDir()))
	partitions := filepath.Join(b.dir, "partitions")
	noError(t, os.RemoveAll(partitions))
	noError(t, os.WriteFile(partitions, nil, 0o600)) // where a folder should be
	run(t, p.Run)
	p.Emit("acme", []byte("0"))
	eventually(t, "the leader has failed, several times", func() error {
		if s := p.Stats(); s.EventsRepeatPossible < 3 || s.EventsOut != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	noError(t, os.Remove(partitions))
	eventually(t, "the event is confirmed", func() error {
		if s := p.Stats(); s.EventsOut != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if n := recordsIn(t, cfg); n != 1 {
		t.Errorf("the topic has %d records of one event", n)
	}
}

// answerProduce has the broker answer produce requests by what code returns for a partition
// and a batch; nil is for the broker to handle.
func (b *broker) answerProduce(code func(partition int32, records []byte) *kerr.Error) {
	b.control(produceKey, func(c *kfake.Cluster, request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := request.(*kmsg.ProduceRequest)
		of := asked.Topics[0]
		fault := code(of.Partitions[0].Partition, of.Partitions[0].Records)
		if fault == nil {
			return nil, nil, false
		}
		answer := kmsg.NewPtrProduceResponse()
		answer.Version = asked.Version
		topic, partition := kmsg.NewProduceResponseTopic(), kmsg.NewProduceResponseTopicPartition()
		partition.Partition, partition.ErrorCode = of.Partitions[0].Partition, fault.Code
		topic.Topic, topic.Partitions = of.Topic, append(topic.Partitions, partition)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
}

// Nor may a batch keep the identity that it got at a second try, when the leader fails then.
func TestBatchThatTheLeaderFailedToStoreAtItsSecondTry(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	p := newProducer(t, testProducer(t, cfg, t.TempDir()))
	defer closeClient(p.client)
	defer func() { noError(t, p.spool.close()) }()
	answers := []*kerr.Error{kerr.OutOfOrderSequenceNumber, kerr.UnknownServerError}
	b.answerProduce(func(int32, []byte) *kerr.Error {
		if len(answers) == 0 {
			return nil
		}
		answer := answers[0]
		answers = answers[1:]
		return answer
	})
	mustAppend(t, p.spool, withHeader("1"))
	rest, err := p.deliver(testContext(t), []batch{mustNext(t, p.spool)}, p.spool)
	if err == nil || len(rest) != 1 || rest[0].id != nil {
		t.Errorf("left %+v, error %v, want one batch without an identity", rest, err)
	}
	if again := mustNext(t, p.spool); again.id != nil {
		t.Errorf("in the spool it has the identity %+v", again.id)
	}
	if got := p.Stats().EventsRepeatPossible; got != 1 {
		t.Errorf("%d events count as possibly repeated, want 1", got)
	}
}

// What Kafka does not take of a batch that it refused as a whole waits in its place. The
// folder of another process is free meanwhile.
func TestHalvesOfASpooledBatchWaitInTheSpool(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(1)
	var taken int
	b.answerProduce(func(_ int32, records []byte) *kerr.Error {
		if binary.BigEndian.Uint32(records[atRecordCount:]) > 1 {
			return kerr.MessageTooLarge
		}
		if taken == 2 {
			return kerr.NotLeaderForPartition
		}
		taken++
		return nil
	})
	dir := t.TempDir()
	left := mustOpenSpool(t, filepath.Join(dir, "2"), 1<<20)
	var events []event
	const n = 8
	for i := range n {
		events = append(events, event{timeMS: time.Now().UnixMilli(), account: "acme", value: fmt.Append(nil, i)})
	}
	mustAppend(t, left, encode(events, "1"))
	noError(t, left.close())

	config := testProducer(t, cfg, filepath.Join(dir, "1"))
	config.SpoolOthers = []string{left.dir}
	p := newProducer(t, config)
	if err := p.adoptFrom(testContext(t), testContext(t), left.dir); !errors.Is(err, kafka.NotLeaderForPartition) {
		t.Fatalf("the error is %v", err)
	}
	s := mustOpenSpool(t, left.dir, 1<<20)
	if stats := p.Stats(); stats.EventsOut != 2 || stats.EventsRepeatPossible != 0 || s.size() == 0 {
		t.Errorf("%d bytes are left: %+v", s.size(), stats)
	}
	noError(t, s.close())
	b.stop()
	b.start() // without that rule
	run(t, p.Run)
	requireOnce(t, cfg, consume(t, cfg), n, p)
}

// A batch that may be in a partition which is away waits for it; the others do not.
func TestBatchOfAPartitionThatIsAwayHoldsNobodyUp(t *testing.T) {
	b := startOwnBroker(t)
	cfg := b.topic(2)
	b.answerProduce(func(partition int32, _ []byte) *kerr.Error {
		if partition == 1 {
			return kerr.NotLeaderForPartition
		}
		return nil
	})
	config := testProducer(t, cfg, t.TempDir())
	config.BatchEventsMax = 1
	p := newProducer(t, config)
	run(t, p.Run)
	s := consume(t, cfg)
	n := 0
	eventually(t, "events flow beside batches that wait for a partition", func() error {
		p.Emit("acme", fmt.Appendf(nil, "%d", n))
		n++
		if stats := p.Stats(); stats.EventsOut < 30 || stats.SpoolBytes == 0 {
			return fmt.Errorf("%+v", stats)
		}
		return nil
	})
	b.stop()
	b.start() // without that rule
	requireOnce(t, cfg, s, n, p)
}
