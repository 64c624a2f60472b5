package main

import (
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

func TestParseSampling(t *testing.T) {
	f := func(text string, rate float64, says string) {
		t.Helper()
		got, err := parseSampling(text)
		if got.HeadSamplingRate != rate || err != nil {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, rate)
		}
		var out strings.Builder
		writeSampling(&out, "shop", got)
		if !strings.Contains(out.String(), says) {
			t.Errorf("%q is shown as %q, want %q", text, out.String(), says)
		}
	}
	f("0.01", 0.01, " 1% ")
	f("7%", 0.07, " 7% ")
	f("0.0001", 0.0001, " 0.01% ")
	f("1", deploy.DefaultSampling().HeadSamplingRate, "every")
	f("100%", 1, "every")
}

func TestBadSamplingRatesAreRefused(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got, err := parseSampling(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want an error with %q", text, got, err, want)
		}
	}
	f("", "must be a share")
	f("one", "must be a share")
	f("0", "above 0")
	f("-1%", "above 0")
	f("NaN", "above 0")
	f("1.01", "at most 1")
	f("101%", "at most 1")
}
