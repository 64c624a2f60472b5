package stream

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/protocol"
)

// traceEvent is about as large, and repeats itself about as much, as the event of
// a plain request.
func traceEvent(i int) []byte {
	return fmt.Appendf(nil, `{"DispatchNamespace":"","Entrypoint":"","Event":{"RayID":"%016x","Request":{"URL":"http://shop.dev.localhost:8080/products/%d?ref=%d","Method":"GET","Headers":{"accept":"*/*","user-agent":"Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0","accept-language":"en-US,en;q=0.5","x-forwarded-for":"10.%d.%d.%d"}},"Response":{"Status":%d}},"EventTimestampMs":%d,"EventType":"fetch","Exceptions":[],"Logs":[],"Outcome":"ok","ScriptName":"shop","ScriptTags":[],"ScriptVersion":{"id":"7f9c24e8-3b12-4fef-91e0-25d7c1a1f6d2","message":"second try","tag":"v2"},"WallTimeMs":%d,"Gateway":{"Decision":"split","RayID":"%016x","UpstreamMs":%d}}`,
		rand.Uint64(), rand.IntN(10000), rand.IntN(100), rand.IntN(256), rand.IntN(256), rand.IntN(256),
		[]int{200, 200, 200, 200, 304, 404, 500}[i%7], 1_790_000_000_000+i, rand.IntN(200), rand.Uint64(), rand.IntN(200))
}

func traceEvents(n int) []event {
	events := make([]event, n)
	for i := range events {
		events[i] = event{timeMS: time.Now().UnixMilli(), account: "00000000000000000000000000000001", value: traceEvent(i)}
	}
	return events
}

// BenchmarkEmit has a collector that throws everything away, so that no call
// finds the queue full.
func BenchmarkEmit(b *testing.B) {
	value := traceEvent(0)
	f := func(name string, emit func(b *testing.B, p *Producer)) {
		b.Run(name, func(b *testing.B) {
			cfg := testProducer(b, Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, b.TempDir())
			cfg.Logger = quiet
			p := newProducer(b, cfg)
			stop := make(chan struct{})
			var collector sync.WaitGroup
			collector.Go(func() {
				var spare []*records
				for {
					select {
					case <-p.wake:
					case <-stop:
						return
					}
					<-p.full
					taken := p.take(spare, false)
					for _, r := range taken {
						p.release(r.events, r.size)
						r.release()
					}
					spare = taken[:0]
				}
			})
			b.ReportAllocs()
			emit(b, p)
			b.StopTimer()
			b.ReportMetric(float64(p.Stats().Dropped["queue_full"])/float64(b.N), "dropped/op")
			close(stop)
			token(p.full)
			collector.Wait()
			run(b, p.Run).stop(b)
		})
	}
	f("one caller", func(b *testing.B, p *Producer) {
		for b.Loop() {
			p.Emit("00000000000000000000000000000001", value)
		}
	})
	f("many callers", func(b *testing.B, p *Producer) {
		b.SetParallelism(50)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.Emit("00000000000000000000000000000001", value)
			}
		})
	})
}

// BenchmarkProduce is from Emit to Kafka's confirmation, at the producer's pace.
func BenchmarkProduce(b *testing.B) {
	cfg := testProducer(b, startOwnBroker(b).topic(4), b.TempDir())
	cfg.Logger, cfg.Linger = quiet, 0
	p := newProducer(b, cfg)
	run(b, p.Run)
	events := traceEvents(1000)
	b.ReportAllocs()
	b.SetBytes(int64(len(events[0].value)))
	for i := range b.N {
		for i%100 == 0 && p.Stats().QueueBytes > p.cfg.QueueBytesMax/2 {
			time.Sleep(time.Millisecond)
		}
		p.Emit(events[i%1000].account, events[i%1000].value)
	}
	for p.Stats().EventsOut < uint64(b.N) {
		time.Sleep(time.Millisecond)
	}
	s := p.Stats()
	b.ReportMetric(float64(s.EventsOut)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(s.BytesIn)/float64(s.BytesOut), "compression")
	b.ReportMetric(float64(s.EventsSpooled)/float64(b.N), "spooled/op")
}

func BenchmarkFetch(b *testing.B) {
	cfg := startOwnBroker(b).topic(1)
	batches := traceEvents(1000)
	encoded := encode(batches, "1")
	client := newClient(cfg)
	defer closeClient(client)
	for range 100 {
		if _, err := produceBatch(testContext(b), client, cfg.Topic, 0, encoded); err != nil {
			b.Fatal(err)
		}
	}
	part := &partition{group: NewGroup(GroupConfig{Config: cfg, GroupID: "g", Logger: quiet}), client: client, reader: mustReader(b, cfg)}
	b.ReportAllocs()
	records := 0
	for b.Loop() {
		if part.position == 100_000 {
			part.position = 0
		}
		got, err := fetchRecords(testContext(b), part)
		if err != nil {
			b.Fatal(err)
		}
		records += len(got)
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkEncode shows what a batch of 1,000 events costs: ours, and what kafka-go makes of
// the same records.
func BenchmarkEncode(b *testing.B) {
	events := traceEvents(1000)
	in := 0
	for _, e := range events {
		in += len(e.value)
	}
	f := func(name string, encode func() int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(in))
			out := 0
			for b.Loop() {
				out = encode()
			}
			b.ReportMetric(float64(in)/float64(out), "compression")
		})
	}
	f("ours", func() int { return len(encode(events, "1").data) })
	for _, c := range []protocol.Attributes{0, protocol.Lz4, protocol.Snappy, protocol.Zstd} {
		f("kafka-go "+c.Compression().String(), func() int { return len(encodeByLibrary(b, events, "1", c)) })
	}
}

// BenchmarkSpoolAppend includes the fsync.
func BenchmarkSpoolAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			s := mustOpenSpool(b, b.TempDir(), 1<<40)
			data := batch{data: noise(size), events: 1}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			var appended atomic.Int64
			for b.Loop() {
				if err := s.append(data); err != nil {
					b.Fatal(err)
				}
				if appended.Add(int64(size)) > 1<<30 {
					b.StopTimer()
					takeAll(b, s)
					appended.Store(0)
					b.StartTimer()
				}
			}
		})
	}
}
