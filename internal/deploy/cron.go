package deploy

import (
	"strconv"
	"strings"

	"tidegate/internal/errs"
)

// cronFields of an expression, in order, with the numbers and names that each allows.
var cronFields = []struct {
	name        string
	least, most int
	names       []string // of least, least+1, ...
	marks       string   // letters with a meaning of their own
}{
	{"minute", 0, 59, nil, ""},
	{"hour", 0, 23, nil, ""},
	{"day of the month", 1, 31, nil, "LW"},
	{"month", 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}, ""},
	{"day of the week", 1, 7, []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}, "L#"},
}

// ParseCron reports what is wrong with a cron expression of five fields.
func ParseCron(expression string) error {
	fields := strings.Fields(expression)
	if len(fields) != len(cronFields) {
		return errs.New(errs.Invalid, 0, "cron %q has %d fields: it must have minute, hour, day of the month, month and day of the week", expression, len(fields))
	}
	for i, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			if !validCronPart(i, strings.ToUpper(part)) {
				return errs.New(errs.Invalid, 0, "cron %q has %q as its %s: write *, numbers from %d to %d, ranges such as 1-5, steps such as */10, or several with commas",
					expression, part, cronFields[i].name, cronFields[i].least, cronFields[i].most)
			}
		}
	}
	return nil
}

func validCronPart(i int, part string) bool {
	field := cronFields[i]
	span, step, stepped := strings.Cut(part, "/")
	if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1 || n > field.most) {
		return false
	}
	if span == "*" {
		return true
	}
	if field.marks != "" && !stepped {
		if day, nth, ok := strings.Cut(span, "#"); ok {
			n, err := strconv.Atoi(nth)
			return strings.Contains(field.marks, "#") && err == nil && n >= 1 && n <= 5 && cronNumber(i, day) >= 0
		}
		if rest := strings.TrimRight(span, field.marks); rest != span {
			return rest == "" || cronNumber(i, rest) >= 0
		}
	}
	from, to, ranged := strings.Cut(span, "-")
	first := cronNumber(i, from)
	if !ranged {
		return first >= 0
	}
	last := cronNumber(i, to)
	return first >= 0 && last >= first
}

// cronNumber returns -1 for what the field does not allow.
func cronNumber(i int, text string) int {
	field := cronFields[i]
	for at, name := range field.names {
		if text == name {
			return field.least + at
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || strings.ContainsAny(text, "+-") || n < field.least || n > field.most {
		return -1
	}
	return n
}
