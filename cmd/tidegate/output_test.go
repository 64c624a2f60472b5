package main

import (
	"strings"
	"testing"
)

// A header alone looked like an answer that was cut off.
func TestEmptyTableSaysSo(t *testing.T) {
	var out strings.Builder
	s := session{}
	s.table(&out, []string{"ID", "NAME"}, nil)
	if got := out.String(); got != "ID  NAME\n(none)\n" {
		t.Errorf("it reads %q", got)
	}
}

func TestCountedAgreesWithItsNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0 records", 1: "1 record", 2: "2 records"} {
		if got := counted(n, "record"); got != want {
			t.Errorf("%d reads %q, want %q", n, got, want)
		}
	}
}
