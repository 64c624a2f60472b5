package schema

import (
	"fmt"
	"testing"
	"time"
)

func TestParseStatusRange(t *testing.T) {
	f := func(text string, low, high int) {
		t.Helper()
		if got, err := ParseStatusRange(text); err != nil || got != (StatusRange{low, high}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	f("404", 404, 404)
	f("5xx", 500, 599)
	f("400-404", 400, 404)
	f("none", 0, 0)
}

func TestBadStatusRangesAreRefused(t *testing.T) {
	for _, text := range []string{"", "0", "99", "1000", "xx", "0xx", "55xx", "404-400", "400-", "-404", "4-5-6", "+404", "four"} {
		if got, err := ParseStatusRange(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestMayMatchIsFalseForOtherScriptsOnly(t *testing.T) {
	filter := EventFilter{Script: "shop-1"}
	f := func(value string, may, matches bool) {
		t.Helper()
		var e TraceEvent
		if err := DecodeEvent([]byte(value), &e); err != nil {
			t.Fatal(err)
		}
		if filter.MayMatch([]byte(value)) != may || filter.Matches(&e) != matches {
			t.Errorf("%s: may match %v, matches %v", value, filter.MayMatch([]byte(value)), filter.Matches(&e))
		}
	}
	f(`{"ScriptName":"shop-1","Outcome":"ok","EventTimestampMs":1}`, true, true)
	f(`{"ScriptName":"shop-2","Outcome":"ok","EventTimestampMs":1}`, false, false)
	f(`{"ScriptName":"front","Entrypoint":"shop-1","Outcome":"ok","EventTimestampMs":1}`, true, false)
	f(`{"ScriptName":"sho\u0070\u002D1","Outcome":"ok","EventTimestampMs":1}`, true, true)
	f(`{"ScriptName":"front","Outcome":"o\u006b","EventTimestampMs":1}`, true, false)
}

func FuzzParseEventPosition(f *testing.F) {
	f.Add("")
	f.Add("1716400000000-3-17")
	f.Add("0-0-0")
	f.Add("99999999999999999999-1-1")
	f.Add("1--1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseEventPosition(text)
		if err != nil {
			return
		}
		// What is accepted is what String writes, of a time that a column can hold.
		again, err := ParseEventPosition(p.String())
		if err != nil || again != p || p.Partition < 0 || p.Offset < 0 || p.Time.After(TimeLatest) {
			t.Errorf("%q is read as %+v, and that as %+v, %v", text, p, again, err)
		}
	})
}

func TestEventPositionsComeBack(t *testing.T) {
	want := EventPosition{time.Date(2026, 5, 1, 12, 0, 0, 17e6, time.UTC), 3, 1 << 40}
	if got, err := ParseEventPosition(want.String()); err != nil || got != want {
		t.Errorf("%+v comes back as %+v, %v", want, got, err)
	}
}

// A range that is taken has statuses only, and is what its text says: written as two numbers it is the same.
func FuzzParseStatusRange(f *testing.F) {
	for _, seed := range []string{"none", "404", "5xx", "400-404", "404-400", "0xx", "+404", "100-999", "xx", "-", "404-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseStatusRange(text)
		if err != nil || text == "none" {
			return
		}
		if r.Low < 100 || r.Low > r.High || r.High > 999 {
			t.Fatalf("%q is %+v", text, r)
		}
		if again, err := ParseStatusRange(fmt.Sprintf("%d-%d", r.Low, r.High)); err != nil || again != r {
			t.Fatalf("%q is %+v, then %+v, %v", text, r, again, err)
		}
	})
}
