package lines

import (
	"bytes"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// Every byte, at every place in and after a word.
func TestOctetsAreThoseOfHTTPGuts(t *testing.T) {
	for length := range 20 {
		for place := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte{'a'}, length)
				b[place] = byte(c)
				if got, want := ValidValue(b), httpguts.ValidHeaderFieldValue(string(b)); got != want {
					t.Errorf("the value %q is valid: %t, want %t", b, got, want)
				}
				if got, want := ValidName(string(b)), httpguts.ValidHeaderFieldName(string(b)); got != want {
					t.Errorf("the name %q is valid: %t, want %t", b, got, want)
				}
			}
		}
	}
	if !ValidValue(nil) || ValidName("") {
		t.Error("a value may be empty, and a name may not")
	}
	if ValidValue([]byte("\t\xff\t\xff\t\xff\t\x7f")) || !ValidValue([]byte("\t\xff\t\xff\t\xff\t\xff\t")) {
		t.Error("a tab in a word decides about the other bytes of it")
	}
}
