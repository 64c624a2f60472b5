package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
)

func TestParseRamp(t *testing.T) {
	f := func(text string, want ...deploy.RampStep) {
		t.Helper()
		got, err := parseRamp(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v, (-want +got)\n%s", text, err, diff)
		}
	}
	f("5%:5m,25%:5m,100%", deploy.RampStep{Percentage: 5_000, BakeSeconds: 300},
		deploy.RampStep{Percentage: 25_000, BakeSeconds: 300}, deploy.RampStep{Percentage: 100_000})
	f("0.5:90s, 100", deploy.RampStep{Percentage: 500, BakeSeconds: 90}, deploy.RampStep{Percentage: 100_000})
	f("none")
}

func TestBadRampsAreRefused(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got, err := parseRamp(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want an error with %q", text, got, err, want)
		}
	}
	f("", "not a percentage")
	f("5%,", "not a percentage")
	f("5%:5", "a time such as 90s")
	f("5%:", "a time such as 90s")
	f("5%:1.5s", "whole number of seconds")
	f("five:5m", "not a percentage")
}

func TestParseShare(t *testing.T) {
	f := func(text string, want float64) {
		t.Helper()
		if got, err := parseShare(text); got != want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	f("2%", 0.02)
	f("0.02", 0.02)
	f("100%", 1)
	f("2", 2) // the policy's own check refuses it
	for _, text := range []string{"", "%", "two", "2 %"} {
		if got, err := parseShare(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestPolicyFileIsReadStrictly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	read := func(text string) (deploy.RollbackPolicy, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readPolicy(nil, path)
	}
	want := deploy.DefaultPolicy()
	want.Enabled, want.MinRequests = true, 7
	got, err := read(`{"enabled": true, "min_requests": 7}`)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got)\n%s", err, diff)
	}
	bad := func(text, want string) {
		t.Helper()
		if got, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v, want an error with %q", text, got, err, want)
		}
	}
	bad(`{"min_requests": 7}`, "enabled is missing")
	bad(`{"enabled": true, "max_failure_rat": 3}`, "max_failure_rat")
	bad(`{"enabled": true, "max_failure_rate": 3}`, "max_failure_rate 3")
	bad(`{"enabled": true} {}`, "something follows")
	bad(``, "EOF")
	if _, err := readPolicy(strings.NewReader(`{"enabled": false}`), "-"); err != nil {
		t.Errorf("from standard input: %v", err)
	}
}

// A ramp that parses is written so that it reads back the same.
func FuzzParseRamp(f *testing.F) {
	for _, seed := range []string{"5%:5m,25%:5m,100%", "none", "1:1ns", "1:-5m", "1:9999999h", "12.346:1h2m3s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parseRamp(text)
		if err != nil {
			return
		}
		for _, step := range steps {
			if step.BakeSeconds < 0 {
				return // the policy's own check refuses it
			}
		}
		again, err := parseRamp(formatRamp(steps))
		if diff := cmp.Diff(steps, again); diff != "" || err != nil {
			t.Fatalf("%q: %v, (-first +again)\n%s", text, err, diff)
		}
	})
}

// A share that parses is the number that was written, or a hundredth of it.
func FuzzParseShare(f *testing.F) {
	for _, seed := range []string{"2%", "0.02", "1e400%", "NaN", "-0%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		share, err := parseShare(text)
		if err != nil {
			return
		}
		p := deploy.DefaultPolicy()
		p.MaxFailureRate = &share
		if p.Validate() == nil && !(share > 0 && share <= 1) {
			t.Fatalf("%q became %v, which the policy accepts", text, share)
		}
		if strings.HasSuffix(text, "%") {
			whole, err := parseShare(strings.TrimSuffix(text, "%"))
			if err != nil || whole == whole && whole/100 != share { // NaN equals nothing
				t.Fatalf("%q is %v, without the sign %v, %v", text, share, whole, err)
			}
		}
	})
}
