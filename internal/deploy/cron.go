package deploy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/errs"
)

// Cron is a schedule in UTC, as Cloudflare reads the five fields of a cron
// expression: days of the week are 1 to 7 from Sunday, ranges may go round the
// end, and a day fits if it fits either of the two day fields when both are
// restricted. Of Quartz it has L, W and #. The zero value matches nothing.
//
// No library for Go reads that dialect, and rewriting it for one that reads
// another is more than to match it: each field is a set of bits.
type Cron struct {
	minutes, hours, months uint64 // bit 0 is the least value of the field
	days                   monthDays
	weekdays               weekDays
}

// monthDays is a rule for days of the month.
type monthDays struct {
	all     bool
	set     uint64 // bit 0 is the first
	day     int    // with nearest: the day that is looked for
	last    bool   // counted from the last day, before days earlier
	before  int
	nearest bool // the weekday nearest to it within the month
}

// weekDays is a rule for days of the week.
type weekDays struct {
	all  bool
	set  uint64 // bit 0 is Sunday
	day  time.Weekday
	last bool // the last such day of the month
	nth  int  // the nth such day of the month; 0 for no such rule
}

// cronField is one field of an expression.
type cronField struct {
	name        string
	least, most int
	names       []string // of least, least+1, ...
}

var cronFields = [5]cronField{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of the month", 1, 31, nil},
	{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{"day of the week", 1, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}},
}

// ParseCron reads a cron expression. Its error has kind invalid.
func ParseCron(expression string) (Cron, error) {
	// Only letters of ASCII: the capital of ſ is S.
	fields := strings.Fields(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}, expression))
	if len(fields) != len(cronFields) {
		return Cron{}, errs.New(errs.Invalid, 0, "cron %q has %d fields: it must have minute, hour, day of the month, month and day of the week", expression, len(fields))
	}
	var c Cron
	var wrong [5]string
	c.minutes, wrong[0] = cronFields[0].set(fields[0])
	c.hours, wrong[1] = cronFields[1].set(fields[1])
	c.days, wrong[2] = parseMonthDays(fields[2])
	c.months, wrong[3] = cronFields[3].set(fields[3])
	c.weekdays, wrong[4] = parseWeekDays(fields[4])
	for i, f := range cronFields {
		if fields[i] != "*" && wrong[i] != "" {
			return Cron{}, errs.New(errs.Invalid, 0, "cron %q has %q as its %s: write *, numbers from %d to %d, ranges such as 1-5, steps such as */10, or several with commas",
				expression, strings.TrimPrefix(wrong[i], ","), f.name, f.least, f.most)
		}
	}
	return c, nil
}

// set reads values, ranges and steps between commas, or a star for all. wrong is
// the first part that is none, with a comma before it so that it is never empty.
func (f *cronField) set(text string) (set uint64, wrong string) {
	if text == "*" {
		return 1<<f.size() - 1, ""
	}
	for part := range strings.SplitSeq(text, ",") {
		bits, ok := f.part(part)
		if !ok {
			return 0, "," + part
		}
		set |= bits
	}
	return set, ""
}

func (f *cronField) size() int { return f.most - f.least + 1 }

// part reads a, a-b, a-b/n, a/n or */n. A range whose end is before its begin goes
// on at the least value.
func (f *cronField) part(text string) (set uint64, ok bool) {
	span, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		if step, ok = number(stepText, 1, f.size()-1); !ok {
			return 0, false
		}
	}
	from, to := f.least, f.most
	if first, last, ranged := strings.Cut(span, "-"); span != "*" {
		if from, ok = f.value(first); !ok {
			return 0, false
		}
		if !stepped {
			to = from
		}
		if ranged {
			if to, ok = f.value(last); !ok {
				return 0, false
			}
		}
	} else if !stepped {
		return 0, false // a star has no company
	}
	length := to - from
	if length < 0 {
		length += f.size()
	}
	for at := 0; at <= length; at += step {
		set |= 1 << ((from - f.least + at) % f.size())
	}
	return set, true
}

// value reads a number or a name.
func (f *cronField) value(text string) (int, bool) {
	if i := slices.Index(f.names, text); i >= 0 {
		return f.least + i, true
	}
	return number(text, f.least, f.most)
}

// number reads digits, without a sign.
func number(text string, least, most int) (int, bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && text[0] >= '0' && text[0] <= '9' && n >= least && n <= most
}

// parseMonthDays reads *, a set, L, LW, L-3, L-3W or 15W.
func parseMonthDays(text string) (days monthDays, wrong string) {
	field := &cronFields[2]
	if text == "*" {
		return monthDays{all: true}, ""
	}
	rule, nearest := strings.CutSuffix(text, "W")
	before, last := strings.CutPrefix(rule, "L")
	switch {
	case last && before == "":
		return monthDays{last: true, nearest: nearest}, ""
	case last:
		offset, ok := strings.CutPrefix(before, "-")
		n, inRange := number(offset, 1, 30)
		if !ok || !inRange {
			return monthDays{}, "," + text
		}
		return monthDays{last: true, before: n, nearest: nearest}, ""
	case nearest:
		day, ok := number(rule, field.least, field.most)
		if !ok {
			return monthDays{}, "," + text
		}
		return monthDays{day: day, nearest: true}, ""
	}
	days.set, wrong = field.set(text)
	return days, wrong
}

// parseWeekDays reads *, a set, L for Saturday, 6L for the last Friday of the
// month, or 2#1 for its first Monday.
func parseWeekDays(text string) (days weekDays, wrong string) {
	field := &cronFields[4]
	if text == "*" {
		return weekDays{all: true}, ""
	}
	if text == "L" {
		return weekDays{set: 1 << time.Saturday}, ""
	}
	if name, last := strings.CutSuffix(text, "L"); last {
		day, ok := field.value(name)
		if !ok {
			return weekDays{}, "," + text
		}
		return weekDays{day: time.Weekday(day - 1), last: true}, ""
	}
	if name, nth, ok := strings.Cut(text, "#"); ok {
		day, okDay := field.value(name)
		n, okNth := number(nth, 1, 5)
		if !okDay || !okNth {
			return weekDays{}, "," + text
		}
		return weekDays{day: time.Weekday(day - 1), nth: n}, ""
	}
	days.set, wrong = field.set(text)
	return days, wrong
}

// Matches reports whether the schedule names the minute of t.
func (c Cron) Matches(t time.Time) bool {
	t = t.UTC()
	if c.minutes>>t.Minute()&1 == 0 || c.hours>>t.Hour()&1 == 0 || c.months>>(t.Month()-1)&1 == 0 {
		return false
	}
	switch {
	case c.days.all:
		return c.weekdays.match(t)
	case c.weekdays.all:
		return c.days.match(t)
	}
	return c.days.match(t) || c.weekdays.match(t)
}

func (d *monthDays) match(t time.Time) bool {
	length := daysIn(t)
	day := d.day
	switch {
	case d.last:
		day = length - d.before
	case !d.nearest:
		return d.set>>(t.Day()-1)&1 == 1
	}
	if day < 1 || day > length {
		return false // this month has no such day
	}
	if d.nearest {
		day = nearestWeekday(t, day, length)
	}
	return t.Day() == day
}

// nearestWeekday returns the day from Monday to Friday that is nearest to a day of
// t's month, within the month.
func nearestWeekday(t time.Time, day, length int) int {
	switch time.Date(t.Year(), t.Month(), day, 0, 0, 0, 0, time.UTC).Weekday() {
	case time.Saturday:
		if day == 1 {
			return 3
		}
		return day - 1
	case time.Sunday:
		if day == length {
			return day - 2
		}
		return day + 1
	}
	return day
}

func (d *weekDays) match(t time.Time) bool {
	switch {
	case d.all:
		return true
	case d.last:
		return t.Weekday() == d.day && t.Day()+7 > daysIn(t)
	case d.nth > 0:
		return t.Weekday() == d.day && (t.Day()-1)/7+1 == d.nth
	}
	return d.set>>t.Weekday()&1 == 1
}

func daysIn(t time.Time) int {
	return time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
