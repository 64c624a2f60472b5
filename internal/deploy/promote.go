package deploy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of windows.
const (
	windowsMax      = 50
	freezeMax       = 366 * 24 * time.Hour // longer ones are typing errors
	freezeReasonMax = 200                  // characters
	minutesOfDay    = 24 * 60
)

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

// MayPromote reports whether a ramp may go on by itself at a time: in one of the
// windows of Promote, if there are any, and in none of Freeze. reason is why not; it
// stays the same until that has an end.
func (p *RollbackPolicy) MayPromote(at time.Time) (ok bool, reason string) {
	if f := p.frozen(at); f != nil {
		reason = "frozen until " + f.Until.UTC().Format(time.RFC3339)
		if f.Reason != "" {
			reason += ": " + f.Reason
		}
		return false, reason
	}
	if len(p.Promote) == 0 {
		return true, ""
	}
	texts := make([]string, len(p.Promote))
	for i, w := range p.Promote {
		if w.contains(at) {
			return true, ""
		}
		texts[i] = w.String()
	}
	return false, "outside of the hours in which ramps go on: " + strings.Join(texts, "; ")
}

// frozen returns the freeze at a time, of several the one that ends last, or nil.
func (p *RollbackPolicy) frozen(at time.Time) *FreezeWindow {
	var last *FreezeWindow
	for i := range p.Freeze {
		f := &p.Freeze[i]
		if !at.Before(f.From) && at.Before(f.Until) && (last == nil || f.Until.After(last.Until)) {
			last = f
		}
	}
	return last
}

// String reads "mon,tue 09:00-17:00 Europe/Berlin".
func (w WeeklyWindow) String() string {
	text := w.From + "-" + w.Until
	if len(w.Days) > 0 {
		text = strings.Join(w.Days, ",") + " " + text
	}
	if w.TimeZone != "" {
		text += " " + w.TimeZone
	}
	return text
}

// contains compares what a clock on the wall shows in the window's time zone, so an
// hour that summer time leaves out is in no window, and one that comes twice is in it
// twice. A window that ends before it begins goes on after midnight, and belongs to
// the day on which it began. One that is not valid contains nothing.
func (w WeeklyWindow) contains(at time.Time) bool {
	zone, err := loadZone(w.TimeZone)
	from, fromOK := clockMinutes(w.From)
	until, untilOK := clockMinutes(w.Until)
	if err != nil || !fromOK || !untilOK {
		return false
	}
	local := at.In(zone)
	minute, today := local.Hour()*60+local.Minute(), local.Weekday()
	if from < until {
		return minute >= from && minute < until && w.on(today)
	}
	yesterday := (today + 6) % 7
	return minute >= from && w.on(today) || minute < until && w.on(yesterday)
}

func (w WeeklyWindow) on(day time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[day])
}

// clockMinutes reads HH:MM as minutes since midnight; 24:00 is a day's end.
func clockMinutes(text string) (minutes int, ok bool) {
	if text == "24:00" {
		return minutesOfDay, true
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, false
	}
	return t.Hour()*60 + t.Minute(), true
}

// loadZone does not take "Local", which is another place on each machine.
func loadZone(name string) (*time.Location, error) {
	if name == "Local" {
		return nil, fmt.Errorf("unknown time zone %s", name)
	}
	return time.LoadLocation(name)
}

func (p *RollbackPolicy) checkTimes() error {
	if n := len(p.Promote); n > windowsMax {
		return badPolicy("promote", "has %d windows: at most %d are allowed", n, windowsMax)
	}
	for i, w := range p.Promote {
		if member, why := w.check(); why != "" {
			return badEntry("promote", i, member, "%s", why)
		}
		if j := slices.IndexFunc(p.Promote[:i], w.overlaps); j >= 0 {
			return badEntry("promote", i, "", "overlaps promote[%d]: let the two be one window", j)
		}
	}
	if n := len(p.Freeze); n > windowsMax {
		return badPolicy("freeze", "has %d times: at most %d are allowed", n, windowsMax)
	}
	for i, f := range p.Freeze {
		if member, why := f.check(); why != "" {
			return badEntry("freeze", i, member, "%s", why)
		}
		// They may overlap: an incident may come in the middle of the holidays.
		if j := slices.IndexFunc(p.Freeze[:i], func(g FreezeWindow) bool { return f.From.Equal(g.From) && f.Until.Equal(g.Until) }); j >= 0 {
			return badEntry("freeze", i, "", "is the same time as freeze[%d]", j)
		}
	}
	return nil
}

// check returns the first bad member and what is wrong with it; why is empty for a
// good window.
func (w WeeklyWindow) check() (member, why string) {
	for i, day := range w.Days {
		if !slices.Contains(weekdays, day) {
			return fmt.Sprintf("days/%d", i), fmt.Sprintf("%.60q must be mon, tue, wed, thu, fri, sat or sun", day)
		}
		if slices.Contains(w.Days[:i], day) {
			return fmt.Sprintf("days/%d", i), fmt.Sprintf("%q is there twice", day)
		}
	}
	from, fromOK := clockMinutes(w.From)
	_, untilOK := clockMinutes(w.Until)
	switch {
	case !fromOK || from == minutesOfDay:
		return "from", fmt.Sprintf("%.60q must be a time of day from 00:00 to 23:59", w.From)
	case !untilOK:
		return "until", fmt.Sprintf("%.60q must be a time of day from 00:00 to 24:00", w.Until)
	case w.From == w.Until:
		return "until", fmt.Sprintf("%q is where the window begins: a whole day is from 00:00 until 24:00", w.Until)
	}
	if _, err := loadZone(w.TimeZone); err != nil {
		return "time_zone", fmt.Sprintf("%.60q is not a time zone that is known here: it must be an IANA name such as Europe/Berlin", w.TimeZone)
	}
	return "", ""
}

// overlaps reports whether two windows of one time zone, both valid, share a minute of
// the week. Those of different zones may share some in one season only.
func (w WeeklyWindow) overlaps(other WeeklyWindow) bool {
	if w.TimeZone != other.TimeZone {
		return false
	}
	mine, theirs := w.spans(), other.spans()
	for _, a := range mine {
		for _, b := range theirs {
			if a[0] < b[1] && b[0] < a[1] {
				return true
			}
		}
	}
	return false
}

// spans are the minutes of the week in the window, each from the first to the one
// after the last.
func (w WeeklyWindow) spans() [][2]int {
	from, _ := clockMinutes(w.From)
	until, _ := clockMinutes(w.Until)
	if until <= from {
		until += minutesOfDay
	}
	var spans [][2]int
	for day := range weekdays {
		if !w.on(time.Weekday(day)) {
			continue
		}
		start := day * minutesOfDay
		spans = append(spans, [2]int{start + from, start + until})
		if day == len(weekdays)-1 && until > minutesOfDay { // into the next week
			spans = append(spans, [2]int{0, until - minutesOfDay})
		}
	}
	return spans
}

func (f FreezeWindow) check() (member, why string) {
	switch {
	case f.From.IsZero():
		return "from", "is missing: it must be a time such as 2026-12-20T00:00:00Z"
	case f.Until.IsZero():
		return "until", "is missing: it must be a time such as 2027-01-02T00:00:00Z"
	case !f.From.Before(f.Until):
		return "until", fmt.Sprintf("%s must be after from, which is %s", f.Until.Format(time.RFC3339), f.From.Format(time.RFC3339))
	case f.Until.Sub(f.From) > freezeMax:
		return "until", fmt.Sprintf("%s is more than %d days after from", f.Until.Format(time.RFC3339), freezeMax/(24*time.Hour))
	case utf8.RuneCountInString(f.Reason) > freezeReasonMax:
		return "reason", fmt.Sprintf("has %d characters: at most %d are allowed", utf8.RuneCountInString(f.Reason), freezeReasonMax)
	case strings.ContainsFunc(f.Reason, unicode.IsControl):
		return "reason", "must have no control characters"
	}
	return "", ""
}
