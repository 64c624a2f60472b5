package stream

import (
	"bytes"
	"encoding/binary"
	"strings"
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
