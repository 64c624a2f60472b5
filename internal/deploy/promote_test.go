package deploy

import (
	"strings"
	"testing"
	"time"
)

func TestMayPromoteWithinWindows(t *testing.T) {
	f := func(w WeeklyWindow, in, out []string) {
		t.Helper()
		p := DefaultPolicy()
		p.Promote = []WeeklyWindow{w}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		for want, times := range map[bool][]string{true: in, false: out} {
			for _, text := range times {
				at, err := time.Parse(time.RFC3339, text)
				if err != nil {
					t.Fatal(err)
				}
				ok, reason := p.MayPromote(at)
				if ok != want || ok == (reason != "") || !ok && !strings.Contains(reason, w.From) {
					t.Errorf("%s at %s: %v, %q", w, text, ok, reason)
				}
			}
		}
	}
	// 2026-11-23 is a Monday.
	f(WeeklyWindow{From: "09:00", Until: "17:00"},
		[]string{"2026-11-23T09:00:00Z", "2026-11-28T16:59:59.9Z", "2026-11-23T18:00:00+02:00"},
		[]string{"2026-11-23T08:59:59Z", "2026-11-23T17:00:00Z", "2026-11-23T09:00:00+02:00"})
	f(WeeklyWindow{From: "00:00", Until: "24:00", Days: []string{"mon"}},
		[]string{"2026-11-23T00:00:00Z", "2026-11-23T23:59:59Z"},
		[]string{"2026-11-22T23:59:59Z", "2026-11-24T00:00:00Z"})
	// Across midnight, it belongs to the day on which it began: also from Saturday to Sunday.
	f(WeeklyWindow{From: "22:00", Until: "02:00", Days: []string{"fri", "sat"}},
		[]string{"2026-11-27T22:00:00Z", "2026-11-28T01:59:00Z", "2026-11-28T22:30:00Z", "2026-11-29T01:00:00Z"},
		[]string{"2026-11-27T01:00:00Z", "2026-11-28T02:00:00Z", "2026-11-29T22:00:00Z", "2026-11-27T21:59:00Z"})
	// Berlin: in summer 09:00 is 07:00 UTC, in winter 08:00.
	f(WeeklyWindow{From: "09:00", Until: "10:00", TimeZone: "Europe/Berlin"},
		[]string{"2026-07-06T07:00:00Z", "2026-11-23T08:00:00Z"},
		[]string{"2026-07-06T08:00:00Z", "2026-11-23T07:00:00Z"})
	// On 2026-03-29 02:00 becomes 03:00; on 2026-10-25 03:00 becomes 02:00, and that hour comes twice.
	f(WeeklyWindow{From: "02:00", Until: "03:00", TimeZone: "Europe/Berlin"},
		[]string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-03-28T01:30:00Z"},
		[]string{"2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-03-29T01:59:59Z", "2026-10-25T02:00:00Z"})
	// The day is that of the time zone: Sunday night in New York is Monday in UTC.
	f(WeeklyWindow{From: "20:00", Until: "24:00", Days: []string{"sun"}, TimeZone: "America/New_York"},
		[]string{"2026-11-23T01:00:00Z"}, []string{"2026-11-22T20:00:00Z"})
}

func TestMayPromoteOutsideOfFreezes(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 12, n, 0, 0, 0, 0, time.UTC) }
	p := DefaultPolicy()
	p.Freeze = []FreezeWindow{{From: day(20), Until: day(27), Reason: "holidays"}, {From: day(26), Until: day(28)}}
	p.Promote = []WeeklyWindow{{From: "00:00", Until: "24:00"}}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	f := func(at time.Time, want string) {
		t.Helper()
		if ok, reason := p.MayPromote(at); ok != (want == "") || reason != want {
			t.Errorf("%s: %v, %q, want %q", at, ok, reason, want)
		}
	}
	f(day(20).Add(-1), "")
	f(day(20), "frozen until 2026-12-27T00:00:00Z: holidays")
	f(day(26), "frozen until 2026-12-28T00:00:00Z")
	f(day(28), "")
	p = DefaultPolicy()
	f(day(20), "")
	// A zone that a later program knew and this one does not: hold.
	p.Promote = []WeeklyWindow{{From: "00:00", Until: "24:00", TimeZone: "Mars/Olympus"}}
	f(day(1), "outside of the hours in which ramps go on: 00:00-24:00 Mars/Olympus")
}

func TestPolicyRefusesBadWindows(t *testing.T) {
	f := func(pointer, value string, windows ...WeeklyWindow) {
		t.Helper()
		p := DefaultPolicy()
		p.Promote = windows
		refused(t, p, pointer, value)
	}
	f("/promote", "51", make([]WeeklyWindow, 51)...)
	f("/promote/0/days/1", `promote[0].days[1] "monday"`, WeeklyWindow{Days: []string{"tue", "monday"}, From: "09:00", Until: "17:00"})
	f("/promote/0/days/1", "twice", WeeklyWindow{Days: []string{"tue", "tue"}, From: "09:00", Until: "17:00"})
	for _, from := range []string{"", "9:00", "24:00", "09:60", "09:00:00", "-1:00", "25:00"} {
		f("/promote/0/from", "00:00 to 23:59", WeeklyWindow{From: from, Until: "17:00"})
	}
	for _, until := range []string{"", "24:01", "17", "17:0"} {
		f("/promote/0/until", "00:00 to 24:00", WeeklyWindow{From: "09:00", Until: until})
	}
	f("/promote/0/until", "a whole day", WeeklyWindow{From: "09:00", Until: "09:00"})
	for _, zone := range []string{"Mars/Olympus", "Local", "../UTC", "CEST+1"} {
		f("/promote/0/time_zone", "IANA", WeeklyWindow{From: "09:00", Until: "17:00", TimeZone: zone})
	}
	f("/promote/1", "overlaps promote[0]", WeeklyWindow{From: "09:00", Until: "17:00"}, WeeklyWindow{Days: []string{"wed"}, From: "16:00", Until: "18:00"})
	f("/promote/1", "overlaps promote[0]", WeeklyWindow{Days: []string{"sat"}, From: "22:00", Until: "02:00"}, WeeklyWindow{Days: []string{"sun"}, From: "01:00", Until: "03:00"})
	p := DefaultPolicy()
	p.Promote = []WeeklyWindow{{Days: []string{"fri"}, From: "22:00", Until: "02:00"}, {Days: []string{"fri"}, From: "00:00", Until: "22:00"}, {Days: []string{"sat"}, From: "02:00", Until: "24:00"}}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

func TestPolicyRefusesBadFreezes(t *testing.T) {
	from := time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC)
	f := func(pointer, value string, freezes ...FreezeWindow) {
		t.Helper()
		p := DefaultPolicy()
		p.Freeze = freezes
		refused(t, p, pointer, value)
	}
	f("/freeze", "51", make([]FreezeWindow, 51)...)
	f("/freeze/0/from", "missing", FreezeWindow{Until: from})
	f("/freeze/0/until", "missing", FreezeWindow{From: from})
	f("/freeze/0/until", "after from", FreezeWindow{From: from, Until: from})
	f("/freeze/0/until", "after from", FreezeWindow{From: from, Until: from.Add(-time.Hour)})
	f("/freeze/0/until", "366 days", FreezeWindow{From: from, Until: from.AddDate(10, 0, 0)})
	f("/freeze/0/reason", "201", FreezeWindow{From: from, Until: from.Add(1), Reason: strings.Repeat("x", 201)})
	f("/freeze/0/reason", "control", FreezeWindow{From: from, Until: from.Add(1), Reason: "a\nb"})
	f("/freeze/1", "freeze[0]", FreezeWindow{From: from, Until: from.Add(1)}, FreezeWindow{From: from, Until: from.Add(1), Reason: "again"})
}
