package ingest

import (
	"strings"
	"testing"
)

func TestPlanToken(t *testing.T) {
	got := plan{Begin: 100, End: 250, At: 1700000000000}.token("workers_trace_events", 7)
	if want := "workers_trace_events-7-100-250-1700000000000"; got != want {
		t.Errorf("token is %q, want %q", got, want)
	}
}

func TestDecodePlan(t *testing.T) {
	f := func(metadata string, want plan) {
		t.Helper()
		got, ok, err := decodePlan(metadata)
		if err != nil || got != want || ok != (metadata != "") {
			t.Errorf("decodePlan(%q) = %+v, %t, %v, want %+v", metadata, got, ok, err, want)
		}
	}
	f("", plan{})
	f(`{"begin":0,"end":1,"at":5}`, plan{0, 1, 5})
	f(` {"end":9,"begin":3} `, plan{3, 9, 0})
}

func TestDecodePlanRefuses(t *testing.T) {
	f := func(metadata, want string) {
		t.Helper()
		got, ok, err := decodePlan(metadata)
		if err == nil || ok || got != (plan{}) || !strings.Contains(err.Error(), want) {
			t.Errorf("decodePlan(%q) = %+v, %t, %v, want an error with %q", metadata, got, ok, err, want)
		}
	}
	f("someone else's words", "invalid character")
	f(`{"begin":5,"end":5}`, "end greater than begin")
	f(`{"begin":-1,"end":5}`, "begin must be 0 or more")
	f(`{"begin":1,"end":5} {}`, "something follows it")
	f(`{"begin":1,"end":5,"rows":3}`, "unknown field")
	f(`null`, "end greater than begin")
	f(strings.Repeat("x", 5000), "invalid character")
}

// What decodes is a usable range, and survives being written and read again.
func FuzzDecodePlan(f *testing.F) {
	for _, seed := range []string{"", `{"begin":0,"end":1,"at":5}`, `{"begin":9,"end":3}`, "null", `{"begin":1e3,"end":2e3}`, `{"Begin":1,"END":2}`, "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, metadata string) {
		p, ok, err := decodePlan(metadata)
		if !ok || err != nil {
			if p != (plan{}) || (ok && err != nil) {
				t.Fatalf("decodePlan(%q) = %+v, %t, %v", metadata, p, ok, err)
			}
			return
		}
		if p.Begin < 0 || p.End <= p.Begin {
			t.Fatalf("decodePlan(%q) = %+v", metadata, p)
		}
		again, ok, err := decodePlan(p.encode())
		if again != p || !ok || err != nil {
			t.Fatalf("%+v became %+v, %t, %v", p, again, ok, err)
		}
	})
}
