package deploy

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"tidegate/internal/errs"
)

// Each line: an expression, then the days or minutes from the begin of 2026-03 (a
// Sunday) on that it names.
func TestCronMatches(t *testing.T) {
	days := func(expression string, want ...string) {
		t.Helper()
		c, err := ParseCron(expression)
		if err != nil {
			t.Errorf("%q is refused: %v", expression, err)
			return
		}
		var got []string
		for at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC); at.Month() <= time.April; at = at.Add(time.Minute) {
			if c.Matches(at) {
				got = append(got, at.Format("01-02 15:04"))
			}
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("%q names\n%q, want\n%q", expression, got, want)
		}
	}
	// The examples of Cloudflare's documentation.
	sundays := []string{"03-01 17:00", "03-08 17:00", "03-15 17:00", "03-22 17:00", "03-29 17:00", "04-05 17:00", "04-12 17:00", "04-19 17:00", "04-26 17:00"}
	days("0 17 * * sun", sundays...)
	days("0 17 * * 1", sundays...)
	fridays := []string{"04-03 07:10", "04-10 07:10", "04-17 07:10", "04-24 07:10"}
	days("10 7 * apr fri", fridays...)
	days("10 7 * apr 6", fridays...)
	days("10 7 3,4 apr 6", "04-03 07:10", "04-04 07:10", "04-10 07:10", "04-17 07:10", "04-24 07:10") // either of the two day fields
	days("0 15 1 * *", "03-01 15:00", "04-01 15:00")
	days("0 18 * * 6L", "03-27 18:00", "04-24 18:00")
	days("0 18 * * friL", "03-27 18:00", "04-24 18:00")
	days("59 23 LW * *", "03-31 23:59", "04-30 23:59")

	days("0 0 L * *", "03-31 00:00", "04-30 00:00")
	days("0 0 L-3 * *", "03-28 00:00", "04-27 00:00")
	days("0 0 L-3W * *", "03-27 00:00", "04-27 00:00") // the 28th is a Saturday
	days("0 0 1W * *", "03-02 00:00", "04-01 00:00")   // the 1st is a Sunday
	days("0 0 31W * *", "03-31 00:00")
	days("0 0 28W 3 *", "03-27 00:00")
	days("0 0 29W 3 *", "03-30 00:00")
	days("0 10 * * MON#2", "03-09 10:00", "04-13 10:00")
	days("0 10 * * 1#5", "03-29 10:00")
	days("0 0 * 4 L", "04-04 00:00", "04-11 00:00", "04-18 00:00", "04-25 00:00")
	days("0 12 1-3 3 *", "03-01 12:00", "03-02 12:00", "03-03 12:00")
	days("58/1 23 30-1 3 *", "03-01 23:58", "03-01 23:59", "03-30 23:58", "03-30 23:59", "03-31 23:58", "03-31 23:59") // round the end
	days("0 22-1/3 1 4 *", "04-01 01:00", "04-01 22:00")
	days("*/30,5 6 1 4 *", "04-01 06:00", "04-01 06:05", "04-01 06:30")
	days("0 0 30 2 *")
	days("0 0 1 4 2-6", "04-01 00:00", "04-02 00:00", "04-03 00:00", "04-06 00:00", "04-07 00:00", "04-08 00:00", "04-09 00:00", "04-10 00:00",
		"04-13 00:00", "04-14 00:00", "04-15 00:00", "04-16 00:00", "04-17 00:00", "04-20 00:00", "04-21 00:00", "04-22 00:00", "04-23 00:00", "04-24 00:00",
		"04-27 00:00", "04-28 00:00", "04-29 00:00", "04-30 00:00")
}

func TestCronNearestWeekday(t *testing.T) {
	f := func(expression, day string, want bool) {
		t.Helper()
		c, err := ParseCron(expression)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		if c.Matches(at) != want {
			t.Errorf("%q on %s: %t, want %t", expression, day, !want, want)
		}
	}
	f("0 0 1W * *", "2026-08-03", true) // the 1st is a Saturday, and July is another month
	f("0 0 1W * *", "2026-07-31", false)
	f("0 0 31W * *", "2026-05-29", true) // the 31st is a Sunday, and June is another month
	f("0 0 LW * *", "2026-05-29", true)
	f("0 0 LW * *", "2026-02-27", true)
	f("0 0 L * *", "2028-02-29", true)
	f("0 0 29 2 *", "2028-02-29", true)
	if !mustCron(t, "* * * * *").Matches(time.Date(2026, 3, 1, 2, 0, 59, 0, time.FixedZone("", 3600))) {
		t.Error("every minute is not every minute")
	}
}

func mustCron(t *testing.T, expression string) Cron {
	t.Helper()
	c, err := ParseCron(expression)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadCronExpressionsAreRefusedByName(t *testing.T) {
	for bad, part := range map[string]string{
		"":               "0 fields",
		"* * * *":        "4 fields",
		"* * * * * *":    "6 fields",
		"60 * * * *":     `"60" as its minute`,
		"* 24 * * *":     `"24" as its hour`,
		"* * 0 * *":      `"0" as its day of the month`,
		"* * * 13 *":     `"13" as its month`,
		"* * * * 8":      `"8" as its day of the week`,
		"* * * * 0":      `"0" as its day of the week`,
		"*/0 * * * *":    `"*/0"`,
		"*/60 * * * *":   `"*/60"`,
		"*,5 * * * *":    `"*" as its minute`,
		"1, * * * *":     `"" as its minute`,
		"+1 * * * *":     `"+1"`,
		"1-/2 * * * *":   `"1-/2"`,
		"L * * * *":      `"L" as its minute`,
		"* * L-31 * *":   `"L-31"`,
		"* * LX * *":     `"LX"`,
		"* * W * *":      `"W"`,
		"* * 1W,2 * *":   `"1W"`,
		"* * * * MON#6":  `"MON#6"`,
		"* * * * #1":     `"#1"`,
		"* * * * noday":  `"NODAY"`,
		"* * ? * *":      `"?"`,
		"* * * * ſUN":    `"ſUN" as its day of the week`,
		"every 5 minute": "3 fields",
	} {
		_, err := ParseCron(bad)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: error %v does not tell of %s", bad, err, part)
		}
	}
}

// Whatever is read is ASCII but for its spaces and matches without a panic, and says why when it is not read.
func FuzzParseCron(f *testing.F) {
	for _, seed := range []string{"* * * * *", "*/30 0-5/2 L-3W JAN,3-5 6L", "0 0 15W * MON#2", "59-0 23/1 31 12 7", "* * * * \u017fun", "* * * \u017fep thu"} {
		f.Add(seed, int64(1_772_366_400))
	}
	f.Fuzz(func(t *testing.T, expression string, seconds int64) {
		c, err := ParseCron(expression)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("%q: %v", expression, err)
			}
			return
		}
		for _, r := range strings.Join(strings.Fields(expression), "") {
			if r > unicode.MaxASCII {
				t.Fatalf("%q is read", expression)
			}
		}
		at := time.Unix(seconds%(1<<36), 0)
		if c.Matches(at) != c.Matches(at.Truncate(time.Minute)) {
			t.Fatalf("%q depends on the second", expression)
		}
	})
}
