package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/protocol"
)

// encodeByLibrary has kafka-go write a batch.
func encodeByLibrary(t testing.TB, events []event, schema string, compression protocol.Attributes) []byte {
	t.Helper()
	var records []protocol.Record
	for _, e := range events {
		r := protocol.Record{Time: time.UnixMilli(e.timeMS), Value: protocol.NewBytes(e.value)}
		r.Headers = append(r.Headers, protocol.Header{Key: headerAccount, Value: []byte(e.account)}, protocol.Header{Key: headerSchema, Value: []byte(schema)})
		for _, h := range e.headers {
			r.Headers = append(r.Headers, protocol.Header{Key: h.Name, Value: []byte(h.Value)})
		}
		records = append(records, r)
	}
	set := protocol.RecordSet{Version: 2, Attributes: compression, Records: protocol.NewRecordReader(records...)}
	var data bytes.Buffer
	if _, err := set.WriteTo(&data); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}

// A batch is byte for byte what kafka-go writes of the same records, but for the
// compression and what depends on it.
func TestEncodeWritesWhatTheLibraryDoes(t *testing.T) {
	f := func(events ...event) {
		t.Helper()
		want := encodeByLibrary(t, events, "7", 0)
		got := encode(events, "7").data
		b := got[4:]
		if n := binary.BigEndian.Uint32(got); int(n) != len(b) {
			t.Errorf("the length says %d, and %d bytes follow", n, len(b))
		}
		if n := binary.BigEndian.Uint32(b[atBatchLength:]); int(n) != len(b)-atLeaderEpoch {
			t.Errorf("the batch's length says %d, and %d bytes follow", n, len(b)-atLeaderEpoch)
		}
		if sum := crc32.Checksum(b[atAttributes:], castagnoli); binary.BigEndian.Uint32(b[atChecksum:]) != sum {
			t.Error("the checksum is wrong")
		}
		if a := binary.BigEndian.Uint16(b[atAttributes:]); a != uint16(protocol.Zstd) {
			t.Errorf("attributes %d, want %d", a, protocol.Zstd)
		}
		z, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		records, err := z.DecodeAll(b[batchHeaderBytes:], nil)
		if err != nil {
			t.Fatal(err)
		}
		header := bytes.Clone(b[:batchHeaderBytes])
		for _, at := range []struct{ from, to int }{{atBatchLength, atLeaderEpoch}, {atChecksum, atLastOffset}} {
			copy(header[at.from:at.to], want[4+at.from:])
		}
		if !bytes.Equal(header, want[4:4+batchHeaderBytes]) {
			t.Errorf("header\n%x, want\n%x", header, want[4:4+batchHeaderBytes])
		}
		if !bytes.Equal(records, want[4+batchHeaderBytes:]) {
			t.Errorf("records\n%q, want\n%q", records, want[4+batchHeaderBytes:])
		}
	}
	const now = 1_790_000_000_000
	long := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // longer than the window
	f(event{timeMS: now, account: "acme", value: []byte("{}")})
	f(event{timeMS: now, account: "acme", value: []byte{}})
	f(event{timeMS: now, account: "acme", value: long}, event{timeMS: now + 1, account: "acme", value: long})
	f(event{timeMS: now, account: "a", value: []byte("1")},
		event{timeMS: now - 5000, account: "b", value: []byte("2")}, // the clock was set back
		event{timeMS: now + 5000, account: "c", value: []byte("3"), headers: []Header{{"script", "shop"}, {"client_ip", "192.0.2.1"}}})
	var many []event
	for i := range 3000 {
		many = append(many, event{timeMS: now + int64(i), account: fmt.Sprint(i), value: traceEvent(i)})
	}
	f(many...)
}
