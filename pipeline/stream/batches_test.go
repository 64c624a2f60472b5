package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/compress"
)

// sum makes the checksums of all batches in data right, in place.
func sum(data []byte) []byte {
	for rest := data; len(rest) >= batchHeaderBytes; {
		length := int(binary.BigEndian.Uint32(rest[atBatchLength:]))
		if length < batchHeaderBytes-atLeaderEpoch || len(rest)-atLeaderEpoch < length {
			break
		}
		b := rest[:atLeaderEpoch+length]
		binary.BigEndian.PutUint32(b[atChecksum:], crc32.Checksum(b[atAttributes:], castagnoli))
		rest = rest[len(b):]
	}
	return data
}

// broken is a batch of n records whose checksum is right and whose records are not
// what its codec makes.
func broken(codec compress.Compression, n int, base int64) []byte {
	b := wire(encode(testEvents(n), "1"), base)
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(codec))
	for i := batchHeaderBytes; i < len(b); i++ {
		b[i] = 0xa5
	}
	return sum(b)
}

// events100 are a hundred events, told from those of another kind, and the records that they become.
func events100(kind byte, base int64) (list []event, records []Record) {
	for i := range 100 {
		e := event{timeMS: 1_700_000_000_000 + int64(i), account: string(kind), value: fmt.Appendf(nil, "%c %d %s", kind, i, bytes.Repeat([]byte{kind}, i*13%200))}
		list = append(list, e)
		records = append(records, Record{Offset: base + int64(i), Time: time.UnixMilli(e.timeMS), Account: e.account, Schema: "1", Value: e.value})
	}
	return list, records
}

// batchesOf are the only piece of data.
func batchesOf(t testing.TB, data []byte, first int64) *Batches {
	t.Helper()
	pieces, _, err := cut(data, first)
	if err != nil || len(pieces) != 1 {
		t.Fatalf("%d pieces, %v", len(pieces), err)
	}
	return &pieces[0]
}

// What a Memory held before, of whatever codec and size, is in nothing that is decoded
// into it later, and many may decode the same batches.
func TestMemoryIsUsedAgainForBatchesOfEachCodec(t *testing.T) {
	type task struct {
		name    string
		batches *Batches
		want    []Record
	}
	var tasks []task
	for i, codec := range codecs {
		base := int64(i * 1000)
		events, want := events100(byte('a'+i), base)
		data := theirBatch(t, codec, events)[4:]
		binary.BigEndian.PutUint64(data, uint64(base))
		tasks = append(tasks, task{codec.String(), batchesOf(t, data, base), want})
		// Several in one piece, the second of another codec.
		more, also := events100('z', base+100)
		second := theirBatch(t, codecs[(i+1)%len(codecs)], more)[4:]
		binary.BigEndian.PutUint64(second, uint64(base+100))
		tasks = append(tasks, task{codec.String() + " and another", batchesOf(t, slices.Concat(data, second), base), slices.Concat(want, also)})
		tasks = append(tasks, task{codec.String() + " that is broken", batchesOf(t, broken(compress.Zstd, i+1, base), base), nil})
	}
	var readers sync.WaitGroup
	for reader := range 4 {
		readers.Go(func() {
			var m Memory
			for round := range 3 * len(tasks) {
				of := tasks[(round*(reader+1)+reader)%len(tasks)]
				got, bad := of.batches.Decode(&m)
				if (len(bad) > 0) != (of.want == nil) {
					t.Errorf("%s: %v", of.name, bad)
				}
				if !slices.EqualFunc(got, of.want, equalRecords) {
					t.Errorf("%s: %d records, want %d, or they differ", of.name, len(got), len(of.want))
				}
			}
		})
	}
	readers.Wait()
}

func equalRecords(a, b Record) bool {
	return a.Offset == b.Offset && a.Time.Equal(b.Time) && a.Account == b.Account && a.Schema == b.Schema && slices.Equal(a.Headers, b.Headers) && bytes.Equal(a.Value, b.Value)
}

// Memory that is large enough is not made again.
func TestDecodingIntoTheSameMemoryAllocatesLittle(t *testing.T) {
	events, _ := events100('a', 0)
	b := batchesOf(t, wire(encode(events, "1"), 0), 0)
	var m Memory
	size := 0
	allocations := testing.AllocsPerRun(100, func() {
		if records, bad := b.Decode(&m); len(records) != 100 || bad != nil {
			t.Fatalf("%d records, %v", len(records), bad)
		}
		size = max(size, m.Size())
	})
	if allocations > 20 { // it is 8 at most, also where the race detector throws pools away
		t.Errorf("%v allocations for 100 records", allocations)
	}
	if m.Size() != size || size == 0 {
		t.Errorf("the memory is of %d bytes, and was of %d", m.Size(), size)
	}
}

func TestBatchesThatCannotBeDecodedAreLeftOut(t *testing.T) {
	f := func(name string, data []byte, want []int64, bad ...Undecodable) {
		t.Helper()
		var m Memory
		records, got := batchesOf(t, data, 0).Decode(&m)
		var offsets []int64
		for _, r := range records {
			offsets = append(offsets, r.Offset)
		}
		if !slices.Equal(offsets, want) {
			t.Errorf("%s: the offsets are %v, want %v", name, offsets, want)
		}
		if !slices.EqualFunc(got, bad, func(g, w Undecodable) bool {
			return g.First == w.First && g.Next == w.Next && strings.Contains(g.Err.Error(), w.Err.Error())
		}) {
			t.Errorf("%s: undecodable are %v, want %v", name, got, bad)
		}
	}
	two := func(base int64) []byte { return wire(encode(testEvents(2), "1"), base) }
	at := func(offset int64) error { return fmt.Errorf("decode the batch at offset %d: ", offset) }
	for _, codec := range append(slices.Clone(codecs), 6) { // there is no codec 6
		f(codec.String(), slices.Concat(two(0), broken(codec, 3, 2), two(5)), []int64{0, 1, 5, 6}, Undecodable{2, 5, at(2)})
	}
	f("the first and the last", slices.Concat(broken(4, 2, 0), two(2), broken(1, 2, 4)), []int64{2, 3}, Undecodable{0, 2, at(0)}, Undecodable{4, 6, at(4)})
	f("neighbours", slices.Concat(two(0), broken(4, 2, 2), broken(6, 2, 4), two(6)), []int64{0, 1, 6, 7}, Undecodable{2, 6, at(2)})
	f("nothing else", broken(4, 3, 0), nil, Undecodable{0, 3, at(0)})

	// Records that are read before the batch turns out to be broken are no records.
	short := encode(testEvents(3), "1")
	half := wire(short, 2)
	binary.BigEndian.PutUint32(half[atRecordCount:], 4)
	f("a record too few", slices.Concat(two(0), sum(half), two(5)), []int64{0, 1, 5, 6}, Undecodable{2, 5, at(2)})
}

func TestCut(t *testing.T) {
	b := encode(testEvents(10), "1")
	control := wire(b, 110)
	control[atAttributes+1] |= attributeControl
	sum(control)
	damaged := wire(b, 130)
	damaged[len(damaged)-1] ^= 1

	type span struct{ first, next int64 }
	f := func(name string, data []byte, first, next int64, want ...span) {
		t.Helper()
		pieces, got, err := cut(data, first)
		if err != nil || got != next {
			t.Errorf("%s: up to %d, %v, want %d", name, got, err, next)
		}
		var spans []span
		for _, p := range pieces {
			spans = append(spans, span{p.First, p.Next})
			if p.Size() != cap(p.data) || cap(p.data) != len(p.data) {
				t.Errorf("%s: a piece of %d bytes holds %d and says %d", name, len(p.data), cap(p.data), p.Size())
			}
		}
		if !slices.Equal(spans, want) {
			t.Errorf("%s: pieces %v, want %v", name, spans, want)
		}
	}
	f("nothing", nil, 5, 5)
	f("a part of a batch", wire(b, 0)[:200], 0, 0)
	f("a control batch between", slices.Concat(wire(b, 100), control, wire(b, 120)), 104, 130, span{100, 110}, span{120, 130})
	f("a batch from before", slices.Concat(wire(b, 90), wire(b, 100)), 100, 110, span{100, 110})
	f("what was asked for is compacted", wire(b, 100), 95, 110, span{95, 110})
	f("small ones together", slices.Concat(wire(b, 0), wire(b, 10), wire(b, 20)[:99]), 0, 20, span{0, 20})
	f("damage behind", slices.Concat(wire(b, 110), wire(b, 120), damaged), 110, 130, span{110, 130})
	if _, _, err := cut(slices.Concat(damaged, wire(b, 140)), 130); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damage: %v", err)
	}

	var large []event
	for range 100 {
		large = append(large, event{value: make([]byte, piecesBytes/100)})
	}
	var data []byte
	for i := range 3 {
		one := theirBatch(t, compress.None, large)[4:]
		binary.BigEndian.PutUint64(one, uint64(i*100))
		data = append(data, one...)
	}
	f("each as large as a piece", data, 0, 300, span{0, 100}, span{100, 200}, span{200, 300})
}

// An answer that is about as long as one may be says in its middle that there is more
// behind it.
func TestCutTellsWhereToReadAhead(t *testing.T) {
	one := theirBatch(t, compress.None, []event{{value: make([]byte, 100_000)}})[4:]
	var data []byte
	for i := int64(0); len(data) < fetchBytesMax/2; i++ {
		binary.BigEndian.PutUint64(one, uint64(i))
		data = append(data, one...)
	}
	pieces, next, err := cut(data, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pieces {
		want := int64(0)
		if i == (len(pieces)-1)/2 {
			want = next
		}
		if p.Ahead != want {
			t.Errorf("piece %d of %d: ahead is %d, want %d", i, len(pieces), p.Ahead, want)
		}
	}
}

// Whatever a broker sends, what is cut from it is decoded the same in memory that was used
// before, and what cannot be decoded has a reason.
func FuzzCutAndDecode(f *testing.F) {
	two := encode(testEvents(2), "1")
	f.Add(slices.Concat(wire(two, 7), wire(two, 9), wire(two, 20)), int64(8))
	f.Add(slices.Concat(wire(two, 7), broken(4, 3, 9), wire(two, 12)), int64(0))
	f.Add(slices.Concat(broken(6, 1, 0), broken(1, 2, 1)), int64(0))
	for _, codec := range codecs {
		f.Add(theirBatch(f, codec, testEvents(4))[4:], int64(1))
	}
	f.Add([]byte{}, int64(1))
	used := broken(0, 1, 0)
	f.Fuzz(func(t *testing.T, data []byte, first int64) {
		data = sum(bytes.Clone(data))
		pieces, next, err := cut(data, first)
		if err != nil && len(pieces) > 0 || next < first {
			t.Fatalf("%d pieces up to %d, and %v", len(pieces), next, err)
		}
		for i := range pieces {
			p := &pieces[i]
			var fresh, again Memory
			batchesOf(t, wire(two, 0), 0).Decode(&again)
			batchesOf(t, used, 0).Decode(&again)
			records, undecodable := p.Decode(&fresh)
			repeat, _ := p.Decode(&again)
			sameRecords(t, repeat, records)
			for _, u := range undecodable {
				if u.Err == nil {
					t.Fatalf("offsets %d to %d cannot be decoded, and nobody knows why", u.First, u.Next)
				}
			}
		}
	})
}
