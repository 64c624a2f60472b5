package deploy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

// TestSharesSumAsTheyWereSent: shares were rounded one by one before their sum was
// looked at, so that 50.00149 + 50.00049 passed and 7 x 14.2857 did not.
func TestSharesSumAsTheyWereSent(t *testing.T) {
	accept := func(want []Percentage, percents ...float64) {
		t.Helper()
		shares, err := RoundShares(percents)
		if err != nil {
			t.Errorf("%v: %v", percents, err)
			return
		}
		splits := make([]Split, len(shares))
		for i, share := range shares {
			splits[i] = Split{string(rune('a' + i)), share}
			if want != nil && share != want[i] {
				t.Errorf("%v are rounded to %v, want %v", percents, shares, want)
			}
		}
		if err := ValidateSplits(splits, len(splits)); err != nil {
			t.Errorf("%v are rounded to %v: %v", percents, shares, err)
		}
	}
	accept([]Percentage{100_000}, 100)
	accept([]Percentage{100_000, 0}, 100, 0)
	accept([]Percentage{0, 100_000}, 0, 100)
	accept([]Percentage{99_999, 1}, 99.999, 0.001)
	accept([]Percentage{12_346, 87_654}, 12.346, 87.654)
	accept([]Percentage{33_333, 33_333, 33_334}, 33.333, 33.333, 33.334)
	accept([]Percentage{99_999}, 99.999)
	accept([]Percentage{90_000, 9_999}, 90, 9.999)
	accept([]Percentage{90_000, 10_001}, 90, 10.001)
	accept(nil, 50.0005, 50.0005)
	accept(nil, 49.9995, 49.9995)
	accept(nil, 33.3333333, 33.3333333, 33.3333333)
	accept(nil, 14.2857, 14.2857, 14.2857, 14.2857, 14.2857, 14.2857, 14.2857)

	refuse := func(pointer, part string, percents ...float64) {
		t.Helper()
		shares, err := RoundShares(percents)
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != errs.Invalid || e.Pointer != pointer || !strings.Contains(e.Message, part) {
			t.Errorf("%v: %v, error %v, want %q at %s", percents, shares, err, part, pointer)
		}
	}
	refuse("/versions", "100.00198%", 50.00149, 50.00049)
	refuse("/versions", "99.9985%", 49.9985, 50)
	refuse("/versions", "99.9989%", 99.9989)
	refuse("/versions", "100.0011%", 100, 0.0011)
	refuse("/versions", "100.0011%", 50.0005, 50.0006)
	refuse("/versions", "0%", 0)
	refuse("/versions/1/percentage", "100.0001", 0, 100.0001)
	refuse("/versions/0/percentage", "-0.001", -0.001, 100.001)
}

func TestCodeUpdateHasAnEffectiveValue(t *testing.T) {
	seconds := func(s float64) *float64 { return &s }
	accept := func(mode string, delay *float64, wantMode string, wantDelay *float64) {
		t.Helper()
		got, err := CodeUpdate{mode, delay}.Effective()
		if err != nil || got.Mode != wantMode || (got.MaxDelaySeconds == nil) != (wantDelay == nil) ||
			wantDelay != nil && *got.MaxDelaySeconds != *wantDelay {
			t.Errorf("%q with %v: %+v, error %v", mode, delay, got, err)
		}
	}
	accept("", nil, "deferred", seconds(300))
	accept("deferred", nil, "deferred", seconds(300))
	accept("", seconds(10), "deferred", seconds(10))
	accept("deferred", seconds(0), "deferred", seconds(0))
	accept("deferred", seconds(0.001), "deferred", seconds(0.001))
	accept("deferred", seconds(86_399.999), "deferred", seconds(86_399.999))
	accept("deferred", seconds(86_400), "deferred", seconds(86_400))
	accept("immediate", nil, "immediate", nil)

	refuse := func(mode string, delay *float64, pointer string) {
		t.Helper()
		got, err := CodeUpdate{mode, delay}.Effective()
		if e, ok := errors.AsType[*errs.Error](err); !ok || e.Kind != errs.Invalid || e.Pointer != "/code_update_strategy/"+pointer {
			t.Errorf("%q with %v: %+v, error %v", mode, delay, got, err)
		}
	}
	refuse("later", nil, "mode")
	refuse("Immediate", nil, "mode")
	refuse("immediate", seconds(0), "max_delay")
	refuse("deferred", seconds(-1), "max_delay")
	refuse("deferred", seconds(86_400.001), "max_delay")
	refuse("deferred", seconds(0.0001), "max_delay")
}

// A percentage is within its range, and no copy moves it.
func FuzzPercentage(f *testing.F) {
	for _, seed := range []string{"0", "100", "12.3456", "-0", "100.0001", "1e2", "33.333", "0.0005", "null", `"1"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var p, again Percentage
		if json.Unmarshal(text, &p) != nil {
			return
		}
		copied, err := json.Marshal(p)
		if err == nil {
			err = json.Unmarshal(copied, &again)
		}
		if err != nil || again != p || p < 0 || p > Full {
			t.Fatalf("%q is %d, copied as %s, which is %d, %v", text, p, copied, again, err)
		}
	})
}
