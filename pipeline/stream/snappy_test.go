package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
)

func TestSnappyOfOtherClients(t *testing.T) {
	f := func(data []byte, want, fault string) {
		t.Helper()
		got, err := appendSnappy([]byte("before "), data, 1000)
		if fault == "" && (err != nil || string(got) != "before "+want) || fault != "" && (err == nil || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%q is read as %q, %v; want %q, %q", data, got, err, want, fault)
		}
	}
	block := func(text string) string { return string(s2.EncodeSnappy(nil, []byte(text))) }
	framed := func(blocks ...string) []byte {
		b := []byte(snappyHeader)
		for _, block := range blocks {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(block))), block...)
		}
		return b
	}
	long := strings.Repeat("0123456789", 60)
	f([]byte(block("")), "", "")
	f([]byte(block(long)), long, "") // by a client that writes no header
	f(framed(), "", "")
	f(framed(block("a"), block(""), block(long)), "a"+long, "")
	f(framed(block(long), block(long)), "", "more than")
	f(framed(block(long))[:30], "", "longer than its batch")
	f(framed(block("a"))[:len(snappyHeader)+3], "", "longer than its batch")
	f(nil, "", "corrupt")
	f([]byte("\xe0\x07aaaa"), "", "cannot be") // four bytes for 992
}

// Whatever comes, it is refused or no more than it may be, and memory that was there
// before stays as it was.
func FuzzSnappy(f *testing.F) {
	f.Add(s2.EncodeSnappy(nil, bytes.Repeat([]byte("ab"), 100)))
	f.Add(encode(testEvents(30), "1").data[4+batchHeaderBytes:])
	f.Add([]byte(snappyHeader))
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 10_000
		got, err := appendSnappy([]byte("before"), data, most)
		if err == nil && (len(got) > len("before")+most || !bytes.HasPrefix(got, []byte("before"))) {
			t.Fatalf("%q became %d bytes, %.10q", data, len(got), got)
		}
		again, err := appendSnappy(nil, s2.EncodeSnappy(nil, data), len(data))
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q came back as %q, %v", data, again, err)
		}
	})
}

// emitAll has many goroutines emit values and returns the batches that became of them.
func emitAll(t *testing.T, values [][]byte) []batch {
	t.Helper()
	cfg := testProducer(t, Config{Brokers: []string{"127.0.0.1:1"}, Topic: "t"}, t.TempDir())
	p := newProducer(t, cfg)
	var callers sync.WaitGroup
	const many = 8
	for i := range many {
		callers.Go(func() {
			for ; i < len(values); i += many {
				p.Emit("acme", values[i])
			}
		})
	}
	callers.Wait()
	var batches []batch
	for _, r := range p.take(nil, true) {
		batches = append(batches, r.encode())
	}
	run(t, p.Run).stop(t)
	return batches
}

// Pieces are compressed by those who find them full, at the same time: the batch has them
// in their order all the same, and each event once.
func TestPiecesOfManyCallersAreABatch(t *testing.T) {
	var values [][]byte
	for i := range 5000 {
		values = append(values, traceEvent(i))
	}
	batches := emitAll(t, values)
	if len(batches) != 1 {
		t.Fatalf("%d batches, want one: they are bounded by what is sent", len(batches))
	}
	var d recordDecoder
	records, next, err := d.decode(wire(batches[0], 0), 0)
	if err != nil || next != int64(len(values)) {
		t.Fatalf("decoded up to %d: %v", next, err)
	}
	missing := map[string]bool{}
	for _, v := range values {
		missing[string(v)] = true
	}
	for i, r := range records {
		if r.Offset != int64(i) || !missing[string(r.Value)] {
			t.Fatalf("record %d has offset %d, and was wanted: %t", i, r.Offset, missing[string(r.Value)])
		}
		delete(missing, string(r.Value))
	}
	if len(missing) > 0 {
		t.Errorf("%d events are missing", len(missing))
	}
}

// What cannot be compressed makes batches that a broker takes all the same.
func TestBatchesOfNoiseFitIntoAMessage(t *testing.T) {
	var values [][]byte
	for i := range 3000 {
		values = append(values, fmt.Appendf(noise(1000), "%d", i))
	}
	events := 0
	for _, b := range emitAll(t, values) {
		const brokersMax = 1 << 20
		if events += b.events; len(b.data) > brokersMax {
			t.Errorf("a batch of %d events has %d bytes", b.events, len(b.data))
		}
	}
	if events != len(values) {
		t.Errorf("%d events, want %d", events, len(values))
	}
}
