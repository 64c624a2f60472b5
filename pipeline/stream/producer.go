package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// eventBytesMax is the largest event that is accepted at all. What Kafka takes is
// its own business: it is asked.
const eventBytesMax = 8 << 20

// ProducerConfig describes a Producer. Zero means the default of a field.
type ProducerConfig struct {
	Config
	// Schema is the value of the header "schema" of every record.
	Schema string
	// SpoolDir is where batches wait while Kafka is away; one process, one folder.
	// It must be set, unless NoSpool is.
	SpoolDir string
	// SpoolOthers are the folders of processes that may run beside this one. What they
	// leave there when they end is sent, too.
	SpoolOthers []string
	// NoSpool drops what Kafka does not take at once: for records that nobody would
	// want later.
	NoSpool bool
	// SpoolBytesMax bounds the spool on disk. What comes when it is full is
	// dropped: the newest. SpoolBytesDefault.
	SpoolBytesMax int64
	// SpoolFsync says what a loss of power may take out of the spool. FsyncAlways.
	SpoolFsync Fsync
	// QueueEventsMax and QueueBytesMax bound what waits in memory to be put in a
	// batch. What comes when one is reached is dropped. QueueEventsDefault and
	// QueueBytesDefault.
	QueueEventsMax int
	QueueBytesMax  int
	// Linger is how long an event waits for others to share its batch. A crash
	// loses the events of the last Linger, and those in batches that Kafka has not
	// confirmed yet. 50 ms.
	Linger time.Duration
	// BatchEventsMax and BatchBytesMax end a batch early. Bytes are before
	// compression, so that a batch fits Kafka's default message.max.bytes of 1 MiB
	// whatever is in it. 10,000 and 960 KiB.
	BatchEventsMax int
	BatchBytesMax  int
	// StopTimeout is how long Run goes on sending after its ctx ended; the rest
	// goes to the spool. 3 s.
	StopTimeout time.Duration
	// Logger must be set.
	Logger *slog.Logger
}

// Bounds of a producer that names none.
const (
	SpoolBytesDefault  = 1 << 30
	QueueEventsDefault = 200_000
	QueueBytesDefault  = 64 << 20
)

func (c *ProducerConfig) setDefaults() {
	c.SpoolBytesMax = orDefault(c.SpoolBytesMax, SpoolBytesDefault)
	c.QueueEventsMax = orDefault(c.QueueEventsMax, QueueEventsDefault)
	c.QueueBytesMax = orDefault(c.QueueBytesMax, QueueBytesDefault)
	c.Linger = orDefault(c.Linger, 50*time.Millisecond)
	c.BatchEventsMax = orDefault(c.BatchEventsMax, 10_000)
	c.BatchBytesMax = orDefault(c.BatchBytesMax, 960<<10)
	c.StopTimeout = orDefault(c.StopTimeout, 3*time.Second)
}

func orDefault[T int | int64 | time.Duration](value, byDefault T) T {
	if value > 0 {
		return value
	}
	return byDefault
}

// Producer takes events without ever making its caller wait, and sends them to
// Kafka in batches. While Kafka does not take them, batches go to a spool on disk
// and are sent, oldest first, when it does, while new events flow beside them.
//
// An event that was accepted reaches Kafka once, unless the process crashes within
// Linger or a bound is reached; the latter is counted by reason. A batch whose answer
// was lost is sent again, also by a later process, to the same partition and under the
// same identity, and the partition's leader does not take it twice. When that may have
// failed, the events are counted, too; docs/design.md, section 7, has the conditions.
//
// Order is kept within a batch only: batches go to one partition after another.
// A record's time is that of Emit.
type Producer struct {
	cfg      ProducerConfig
	client   *kafka.Client
	sessions sessions
	spool    *spool                // nil with NoSpool
	adopted  atomic.Pointer[spool] // of another process, while it is being sent
	metrics  *producerMetrics
	trouble  troubleLog
	wake     chan struct{} // gets a token when the queue stops being empty
	full     chan struct{} // gets a token when there is enough for a batch

	mu           sync.Mutex
	pending      []*records // a batch each, the last one still growing; taken by collect
	pendingCount int
	pendingBytes int
	queueEvents  int // pending, and taken but not yet in a batch that was handed on
	queueBytes   int
	stopped      bool
	eventsIn     uint64
	bytesIn      uint64

	eventsOut, bytesOut  atomic.Uint64
	eventsSpooled        atomic.Uint64
	eventsRepeatPossible atomic.Uint64
	spoolDamagedBytes    atomic.Uint64
	dropped              [len(dropReasons)]atomic.Uint64
	away                 atomic.Bool   // the last produce failed; only the drain asks again
	partition            atomic.Uint64 // of the next batch, modulo their number
}

// dropReason says why an event was lost. Its name is the value of the label.
type dropReason int

const (
	droppedQueueFull    dropReason = iota // events came faster than batches could be made
	droppedSpoolFull                      // Kafka is away for longer than SpoolBytesMax lasts
	droppedSpoolError                     // the disk refused, and Kafka did before
	droppedSpoolCorrupt                   // a batch was damaged on disk
	droppedTooLarge                       // the event is larger than Kafka accepts
	droppedRefused                        // Kafka found fault with the event
	droppedStopped                        // it came after Run had ended
	droppedAway                           // Kafka did not take it, and there is no spool
)

var dropReasons = [...]string{"queue_full", "spool_full", "spool_error", "spool_corrupt", "too_large", "refused", "stopped", "away"}

// Stats are counts since the Producer was made, and sizes of now. EventsIn is the
// sum of EventsOut, Dropped and what is still in the queue, in batches on their
// way and in the spool, plus what an earlier process left in the spool.
type Stats struct {
	EventsIn             uint64 // passed to Emit
	BytesIn              uint64 // their values
	EventsOut            uint64 // confirmed by Kafka
	BytesOut             uint64 // batches confirmed by Kafka, compressed
	EventsSpooled        uint64 // that went through the spool
	EventsRepeatPossible uint64 // sent again though Kafka may have them, and may not recognise them
	Dropped              map[string]uint64
	SpoolDamagedBytes    uint64
	ProducerIDsRefused   bool // Kafka does not recognise what is sent again
	QueueEvents          int
	QueueBytes           int
	SpoolBytes           int64
}

// NewProducer opens the spool, if there is to be one. Events wait in the queue until Run is called.
func NewProducer(cfg ProducerConfig) (*Producer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if (cfg.SpoolDir == "") != cfg.NoSpool {
		if cfg.NoSpool {
			return nil, fmt.Errorf("stream: SpoolDir is %s and NoSpool is set: choose one", cfg.SpoolDir)
		}
		return nil, errors.New("stream: SpoolDir is empty: name a folder for what Kafka does not take at once")
	}
	if cfg.Logger == nil {
		return nil, errors.New("stream: Logger is nil")
	}
	cfg.setDefaults()
	if cfg.BatchBytesMax > frameBytesMax {
		return nil, fmt.Errorf("stream: BatchBytesMax %d is above %d", cfg.BatchBytesMax, frameBytesMax)
	}
	var spool *spool
	if !cfg.NoSpool {
		var err error
		if spool, err = openOwnSpool(&cfg); err != nil {
			return nil, err
		}
		spool.fsync = cfg.SpoolFsync
	}
	p := &Producer{
		cfg: cfg, client: newClient(cfg.Config), spool: spool,
		trouble: troubleLog{logger: cfg.Logger},
		wake:    make(chan struct{}, 1), full: make(chan struct{}, 1),
	}
	p.sessions.client = p.client
	p.partition.Store(rand.Uint64N(1 << 16)) // many producers shall not walk in step
	p.metrics = newProducerMetrics(p)
	return p, nil
}

// Emit queues one event. It never blocks and never fails: what can't be queued is
// dropped and counted. It keeps nothing of value. Safe for concurrent use.
func (p *Producer) Emit(account string, value []byte) { p.EmitHeaders(account, nil, value) }

// EmitHeaders is Emit for a record with more headers than all have.
func (p *Producer) EmitHeaders(account string, headers []Header, value []byte) {
	e := event{timeMS: time.Now().UnixMilli(), account: account, headers: headers, value: value}
	size := e.size()
	// One lock, under which the event is copied to its place in the batch: at 50,000 calls a
	// second it is free almost always. The collector is woken twice a batch, where a
	// channel would cost it a receive per event, and there is nothing to collect as garbage.
	p.mu.Lock()
	p.eventsIn++
	p.bytesIn += uint64(len(value))
	switch {
	case p.stopped:
		p.mu.Unlock()
		p.drop(droppedStopped, 1)
		return
	case size > eventBytesMax:
		p.mu.Unlock()
		p.drop(droppedTooLarge, 1)
		return
	case p.queueEvents >= p.cfg.QueueEventsMax, p.queueBytes+size > p.cfg.QueueBytesMax:
		p.mu.Unlock()
		p.drop(droppedQueueFull, 1)
		return
	}
	before := p.pendingBytes
	p.batchForLocked(size).add(&e, size, p.cfg.Schema)
	p.pendingCount++
	p.pendingBytes += size
	p.queueEvents++
	p.queueBytes += size
	first := p.pendingCount == 1
	full := p.pendingCount == p.cfg.BatchEventsMax ||
		before < p.cfg.BatchBytesMax && p.pendingBytes >= p.cfg.BatchBytesMax
	p.mu.Unlock()
	if first {
		token(p.wake)
	}
	if full {
		token(p.full)
	}
}

// batchForLocked returns the records that an event of this size belongs to.
func (p *Producer) batchForLocked(size int) *records {
	if n := len(p.pending); n > 0 {
		if r := p.pending[n-1]; r.events < p.cfg.BatchEventsMax && r.size+size <= p.cfg.BatchBytesMax {
			return r
		}
	}
	r := newRecords()
	p.pending = append(p.pending, r)
	return r
}

// token leaves a token in a channel that holds one, if it is not there already.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take empties the queue, and gives it spare to fill next. The events still count as
// queued until release. The last take closes the queue.
func (p *Producer) take(spare []*records, last bool) []*records {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.pending
	p.pending, p.pendingCount, p.pendingBytes = spare, 0, 0
	p.stopped = p.stopped || last
	return taken
}

// release makes room in the queue for as many events and bytes as were handed on.
func (p *Producer) release(events, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queueEvents -= events
	p.queueBytes -= bytes
}

func (p *Producer) drop(reason dropReason, events int) {
	p.dropped[reason].Add(uint64(events))
}

// Stats may be called at any time, also after Run.
func (p *Producer) Stats() Stats {
	s := Stats{
		EventsOut: p.eventsOut.Load(), BytesOut: p.bytesOut.Load(),
		EventsSpooled:        p.eventsSpooled.Load(),
		EventsRepeatPossible: p.eventsRepeatPossible.Load(),
		SpoolDamagedBytes:    p.spoolDamagedBytes.Load(),
		ProducerIDsRefused:   p.sessions.refused.Load(),
		Dropped:              make(map[string]uint64, len(dropReasons)),
	}
	if p.spool != nil {
		s.SpoolBytes = p.spool.size()
	}
	if adopted := p.adopted.Load(); adopted != nil {
		s.SpoolBytes += adopted.size()
	}
	for i := range dropReasons {
		s.Dropped[dropReasons[i]] = p.dropped[i].Load()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.EventsIn, s.BytesIn, s.QueueEvents, s.QueueBytes = p.eventsIn, p.bytesIn, p.queueEvents, p.queueBytes
	return s
}
