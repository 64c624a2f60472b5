package schema

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// Every byte, at every place in and after a word, is written as encoding/json does, less
// what that escapes for HTML and JavaScript.
func TestStringsAreWrittenAsByEncodingJSON(t *testing.T) {
	f := func(s string) {
		t.Helper()
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		// Which of two ways to escape a byte is taken makes no difference.
		for short, long := range map[string]string{`\b`: `\u0008`, `\f`: `\u000c`, `\ufffd`: "\uFFFD"} {
			want = *bytes.NewBuffer(bytes.ReplaceAll(want.Bytes(), []byte(short), []byte(long)))
		}
		if got := AppendString(nil, s); string(got) != strings.TrimSuffix(want.String(), "\n") {
			t.Errorf("%q is written as %s, want %s", s, got, want.String())
		}
	}
	for length := range 20 {
		for place := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte{'~'}, length)
				b[place] = byte(c)
				f(string(b))
				for i := range b {
					if i != place {
						b[i] = ' ' // next to what a borrow would reach
					}
				}
				f(string(b))
			}
		}
	}
	f("Grüße, 世界, \xff\"und\\ \x00\x1f\x7f\x80")
}

func TestFloatsAreWrittenInTheirShortestForm(t *testing.T) {
	for _, v := range []float64{0, 0.001, 0.01, 0.1, 1, 1.5, 1.05, 1.005, 1.23, 12.345, 999.999, 1000, 123456789.123, 1e9, 1e15 + 0.5, 1e300, 0.0001, 0.12345, 1.0 / 3, -1, -1.5} {
		if got, want := string(appendFloat(nil, v)), strconv.FormatFloat(v, 'f', -1, 64); got != want {
			t.Errorf("%g is written as %s, want %s", v, got, want)
		}
	}
	for n := range int64(100_000) {
		for _, us := range []int64{n, n * 9973, n + 999_999_900_000} {
			v := float64(us) / 1000
			if got, want := string(appendFloat(nil, v)), strconv.FormatFloat(v, 'f', -1, 64); got != want {
				t.Fatalf("%d µs are written as %s, want %s", us, got, want)
			}
		}
	}
}
