package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidegate/internal/deploy"
)

// maskedSecret is how the API shows one, and is told to keep it.
const maskedSecret = "***"

// parseNotify reads "webhook:https://hooks.example.com/x secret-file=hook.txt on=rollback,pause".
// A secret comes from a file: what is on a command line can be seen by others.
func parseNotify(text string) (deploy.NotifyTarget, error) {
	var n deploy.NotifyTarget
	fields := strings.Fields(text)
	if len(fields) == 0 || !strings.Contains(fields[0], ":") {
		return n, errors.New("it must begin with a type, such as slack:https://hooks.slack.com/services/T/B/x or email:oncall@example.com")
	}
	kind, target, _ := strings.Cut(fields[0], ":")
	n.Type = deploy.NotifyType(kind)
	if n.Type == deploy.NotifyEmail {
		n.To = strings.Split(target, ",")
	} else {
		n.URL = target
	}
	for _, option := range fields[1:] {
		name, value, _ := strings.Cut(option, "=")
		switch {
		case name == "on" && value != "":
			for on := range strings.SplitSeq(value, ",") {
				n.On = append(n.On, deploy.NotifyOn(on))
			}
		case name == "secret-file" && value != "":
			secret, err := readAll(strings.NewReader(""), value, secretFileMax)
			if err != nil {
				return n, err
			}
			n.Secret = strings.TrimRight(string(secret), "\r\n")
		case option == "secret="+maskedSecret:
			n.Secret = maskedSecret
		default:
			return n, fmt.Errorf("%q is none of the options on and secret-file", option)
		}
	}
	return n, nil
}

// formatNotify writes what parseNotify reads of a policy as the API shows it.
func formatNotify(n deploy.NotifyTarget) string {
	text := string(n.Type) + ":" + n.URL + strings.Join(n.To, ",")
	if n.Secret != "" {
		text += " secret=" + maskedSecret
	}
	if len(n.On) > 0 {
		on := make([]string, len(n.On))
		for i := range n.On {
			on[i] = string(n.On[i])
		}
		text += " on=" + strings.Join(on, ",")
	}
	return text
}

var daysOfWeek = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// parseWindow reads "mon-wed,fri 09:00-17:00 Europe/Berlin"; days and zone may be missing.
func parseWindow(text string) (deploy.WeeklyWindow, error) {
	var w deploy.WeeklyWindow
	fields := strings.Fields(text)
	if len(fields) > 0 && !strings.Contains(fields[0], ":") {
		for part := range strings.SplitSeq(fields[0], ",") {
			days, err := parseDays(part)
			if err != nil {
				return w, err
			}
			w.Days = append(w.Days, days...)
		}
		fields = fields[1:]
	}
	if len(fields) == 0 || len(fields) > 2 {
		return w, errors.New("it must be days, hours and a time zone, such as mon-fri 09:00-17:00 Europe/Berlin")
	}
	var ok bool
	if w.From, w.Until, ok = strings.Cut(fields[0], "-"); !ok {
		return w, fmt.Errorf("%q must be hours such as 09:00-17:00", fields[0])
	}
	if len(fields) == 2 {
		w.TimeZone = fields[1]
	}
	return w, nil
}

// parseDays reads "fri" and "mon-wed"; "fri-mon" goes over the weekend.
func parseDays(text string) ([]string, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, until := slices.Index(daysOfWeek, first), slices.Index(daysOfWeek, last)
	if from < 0 || until < 0 {
		return nil, fmt.Errorf("%q must be days of %s", text, strings.Join(daysOfWeek, ", "))
	}
	days := []string{daysOfWeek[from]}
	for from != until {
		from = (from + 1) % len(daysOfWeek)
		days = append(days, daysOfWeek[from])
	}
	return days, nil
}

// parseFreeze reads "2026-12-20/2027-01-02 holidays". A date is its beginning in UTC.
func parseFreeze(text string) (deploy.FreezeWindow, error) {
	var f deploy.FreezeWindow
	span, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
	from, until, ok := strings.Cut(span, "/")
	if !ok {
		return f, fmt.Errorf("%q must be two times with a slash between, such as 2026-12-20/2027-01-02", span)
	}
	var errFrom, errUntil error
	f.From, errFrom = parseMoment(from)
	f.Until, errUntil = parseMoment(until)
	f.Reason = strings.TrimSpace(reason)
	return f, errors.Join(errFrom, errUntil)
}

func parseMoment(text string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%q must be a date such as 2026-12-20 or a time such as 2026-12-20T18:00:00Z", text)
	}
	return at, nil
}

func formatFreeze(f deploy.FreezeWindow) string {
	text := f.From.Format(time.RFC3339) + "/" + f.Until.Format(time.RFC3339)
	if f.Reason != "" {
		text += " " + f.Reason
	}
	return text
}
