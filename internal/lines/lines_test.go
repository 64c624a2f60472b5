package lines

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestLinesOfANameKeepTheirOrder(t *testing.T) {
	var h Header
	if h.Lines("A") != nil {
		t.Error("an empty list has lines")
	}
	for _, line := range []string{"A 1", "B 2", "A 3", "C 4", "A 5"} {
		name, value, _ := strings.Cut(line, " ")
		h.Add(name, value)
	}
	f := func(name string, want ...string) {
		t.Helper()
		if got := h.Lines(name); !slices.Equal(got, want) {
			t.Errorf("the lines of %s are %q, want %q", name, got, want)
		}
	}
	f("A", "1", "3", "5")
	f("B", "2")
	f("a")
	_ = append(h.Lines("B"), "6") // must not reach the next line
	f("A", "1", "3", "5")
	h.Filter(func(name string) bool { return name != "A" })
	f("A")
	f("C", "4")
	if len(h.Names) != 2 || len(h.Values) != 2 {
		t.Errorf("after Filter: %v", h)
	}
	h.Reset()
	f("B")
}

func TestContextHasItsExchange(t *testing.T) {
	x := &Exchange{}
	if Of(With(t.Context(), x)) != x || Of(context.Background()) != nil {
		t.Error("Of does not return what With was given")
	}
}

// FuzzOctets holds the readers of names and values to net/http's.
func FuzzOctets(f *testing.F) {
	for _, s := range []string{"", "accept-LANGUAGE: en", "x_y: 1", "a b: c", "\xe4: 1", "\t~\x7f", "12345678\x80", "X-Ab-: -c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		own := bytes.Clone(b)
		n := CanonicalName(own)
		if want := http.CanonicalHeaderKey(string(b[:n])); string(own[:n]) != want || !bytes.Equal(own[n:], b[n:]) {
			t.Errorf("the name in %q is written as %q, want %q", b, own, want)
		}
		if n > 0 != ValidName(string(b[:n])) || n < len(b) && ValidName(string(b[n:n+1])) {
			t.Errorf("the name in %q ends at %d", b, n)
		}
		ascii := !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 })
		if PlainValue(b) != (ValidValue(b) && ascii) {
			t.Errorf("%q is plain: %t", b, PlainValue(b))
		}
	})
}
