package logpush

import (
	"bytes"
	"testing"

	"tidegate/internal/logjob"
)

// A part of a batch is defused as the whole is, also where it did not hang together before.
func TestPartsAreDefused(t *testing.T) {
	job := &logjob.Job{OutputOptions: &logjob.OutputOptions{OutputType: logjob.NDJSON, CVE202144228: new(true)}}
	format, err := job.Format()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("a$b${c}$${d}$\x00{$")
	want := bytes.Clone(text)
	format.Defuse(want)
	for i := range text {
		for j := i; j <= len(text); j++ {
			var got bytes.Buffer
			d := &defuser{to: &got, format: format}
			for _, piece := range [][]byte{text[:i], text[i:j], text[j:]} {
				if n, err := d.Write(piece); n != len(piece) || err != nil {
					t.Fatalf("wrote %d of %d bytes, %v", n, len(piece), err)
				}
			}
			if err := d.Flush(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("in pieces that end at %d and %d: %q, want %q", i, j, got.Bytes(), want)
			}
		}
	}
}
