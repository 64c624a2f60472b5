package ingest

import (
	"strings"
	"testing"
	"time"
)

func TestPlanToken(t *testing.T) {
	got := plan{Begin: 100, End: 250, At: 1700000000000}.token("workers_trace_events", 7)
	if want := "workers_trace_events-7-100-250-1700000000000"; got != want {
		t.Errorf("token is %q, want %q", got, want)
	}
}

func TestParseMark(t *testing.T) {
	f := func(metadata string, want mark) {
		t.Helper()
		if got, err := parseMark(metadata); err != nil || got != want {
			t.Errorf("parseMark(%q) = %+v, %v, want %+v", metadata, got, err, want)
		}
	}
	f("", mark{})
	f("{}", mark{})
	f(`{"newest":7}`, mark{Newest: 7})
	f(`{"begin":0,"end":1,"at":5,"newest":7}`, mark{plan{End: 1, At: 5}, 7})
	f(`{"begin":3,"end":9,"refused":"AQ"}`, mark{plan: plan{Begin: 3, End: 9, Refused: "AQ"}})
	f(` {"end":9,"begin":3} `, mark{plan: plan{Begin: 3, End: 9}})
}

func TestParseMarkRefuses(t *testing.T) {
	f := func(metadata, want string) {
		t.Helper()
		got, err := parseMark(metadata)
		if err == nil || got != (mark{}) || !strings.Contains(err.Error(), want) {
			t.Errorf("parseMark(%q) = %+v, %v, want an error with %q", metadata, got, err, want)
		}
	}
	f("someone else's words", "invalid character")
	f(`{"begin":5,"end":5}`, "end greater than begin")
	f(`{"begin":-1,"end":5}`, "begin must be 0 or more")
	f(`{"begin":1,"end":5} {}`, "something follows it")
	f(`{"begin":1,"end":5,"rows":3}`, "unknown field")
	f(`{"at":5}`, "end greater than begin")
	f(`{"begin":1,"end":5,"refused":"?"}`, "which records are refused")
	f(`{"begin":1,"end":5,"refused":"`+strings.Repeat("A", 4*refusedMax)+`"}`, "are more than")
	f(strings.Repeat("x", 5000), "invalid character")
}

func TestNothingIsNewestWhileNothingWasSeen(t *testing.T) {
	if m := newMark(plan{}, time.Time{}); m != (mark{}) || !m.newest().IsZero() {
		t.Errorf("the mark is %+v", m)
	}
	if at := good(3).Time; !newMark(plan{}, at).newest().Equal(at) {
		t.Errorf("%s came back as %s", at, newMark(plan{}, at).newest())
	}
}

// What is read is a usable range, and survives being written and read again.
func FuzzParseMark(f *testing.F) {
	for _, seed := range []string{"", `{"begin":0,"end":1,"at":5,"newest":7}`, `{"begin":0,"end":9,"refused":"/wE"}`, `{"begin":9,"end":3}`, "null",
		"{}", `{"begin":1e3,"end":2e3}`, `{"Begin":1,"END":2}`, "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, metadata string) {
		m, err := parseMark(metadata)
		if err != nil {
			if m != (mark{}) {
				t.Fatalf("parseMark(%q) = %+v, %v", metadata, m, err)
			}
			return
		}
		if p := m.plan; p != (plan{}) && (p.Begin < 0 || p.End <= p.Begin) {
			t.Fatalf("parseMark(%q) = %+v", metadata, p)
		}
		if again, err := parseMark(m.String()); err != nil || again != m {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
