package logpush

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unzipOne reads exactly one member, and wants nothing behind it.
func unzipOne(t testing.TB, body []byte) []byte {
	t.Helper()
	from := bytes.NewReader(body)
	zip, err := gzip.NewReader(from)
	if err != nil {
		t.Fatal(err)
	}
	zip.Multistream(false)
	text, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	if from.Len() > 0 {
		t.Fatalf("%d bytes follow the gzip member", from.Len())
	}
	return text
}

func zipped(t testing.TB, pieces [][]byte) ([]byte, []byte) {
	t.Helper()
	var z zipper
	var text []byte
	for _, p := range pieces {
		if err := z.write(p); err != nil {
			t.Fatal(err)
		}
		text = append(text, p...)
	}
	return bytes.Clone(z.end()), text
}

func FuzzPiecesAreOneGzipMember(f *testing.F) {
	f.Add([]byte("one two three"), uint8(3))
	f.Add([]byte{}, uint8(0))
	f.Add(bytes.Repeat([]byte("abcdefgh"), 20_000), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, cuts uint8) {
		dice := rand.New(rand.NewPCG(uint64(cuts), 1))
		pieces := [][]byte{}
		rest := text
		for range cuts {
			n := dice.IntN(len(rest) + 1)
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		body, want := zipped(t, append(pieces, rest))
		if got := unzipOne(t, body); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back, want %d", len(got), len(want))
		}
		again, _ := zipped(t, append(pieces, rest))
		if !bytes.Equal(body, again) {
			t.Error("the same text gives another body")
		}
	})
}

// The gzip that everybody has reads it as well, and says nothing of trailing bytes.
func TestGzipReadsPieces(t *testing.T) {
	program, err := exec.LookPath("gzip")
	if err != nil {
		t.Skip("gzip is not installed")
	}
	var pieces [][]byte
	for i := range 40 {
		pieces = append(pieces, []byte(strings.Repeat(lines(i*1000, i*1000+100), 30)))
	}
	body, text := zipped(t, pieces)
	name := filepath.Join(t.TempDir(), "x.gz")
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "-t", name).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gzip -t: %v: %s", err, out)
	}
	if size := binary.LittleEndian.Uint32(body[len(body)-4:]); int(size) != len(text) {
		t.Errorf("the trailer says %d bytes, want %d", size, len(text))
	}
}

// Pieces must not cost what one stream saves.
func TestPiecesAreAsSmallAsAStream(t *testing.T) {
	var pieces [][]byte
	dice := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		var p []byte
		for len(p) < pieceBytes {
			p = append(p, event("ok", dice.IntN(1<<30))...)
		}
		pieces = append(pieces, p)
	}
	body, text := zipped(t, pieces)
	whole, _ := zipped(t, [][]byte{text})
	if len(body) > len(whole)*102/100 {
		t.Errorf("in pieces it has %d bytes, as a whole %d", len(body), len(whole))
	}
}
