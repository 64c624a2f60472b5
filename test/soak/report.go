package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is bin/soak/report.json; report.txt says the same to a person.
type report struct {
	Passed      bool              `json:"passed"`
	Broke       []string          `json:"broke"` // a sentence each
	Seed        uint64            `json:"seed"`
	Began       time.Time         `json:"began"`
	Duration    string            `json:"duration"`
	Rate        int               `json:"requests_per_second"`
	Unavailable map[string]string `json:"unavailable"` // faults that could not be had, and why
	Unreached   []string          `json:"unreached"`   // faults for which there was no time
	Faults      []fault           `json:"faults"`
	Changes     map[string]int    `json:"changes"`
	Refused     map[string]int    `json:"changes_refused_during_faults"`
	Accounts    accounts          `json:"accounts"`
	Growth      []grown           `json:"growth"`
	Verify      string            `json:"verify"`
	StoppedIn   string            `json:"stopped_in"`
}

func (r *report) broke(format string, args ...any) {
	r.Broke = append(r.Broke, fmt.Sprintf(format, args...))
}

// finish draws the conclusions.
func (r *report) finish(w *world) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Faults, r.Changes, r.Refused = w.faults, w.accepted, w.refused
	for _, name := range laterFaults {
		if w.o.faults.MatchString(name) && r.Unavailable[name] == "" && !slices.ContainsFunc(r.Faults, func(f fault) bool { return f.Name == name }) {
			r.Unreached = append(r.Unreached, name)
		}
	}
	a := &r.Accounts
	if a.Answered == 0 {
		r.broke("not one request was answered")
	}
	if a.Missing > a.Dropped {
		r.broke("%d events are missing that no kill explains, and %d were dropped and counted; one of them is %s, and report.json has the others", a.Missing, a.Dropped, a.Examples[0])
	}
	if a.Untraced > 0 {
		r.broke("%d responses have no Cf-Ray, so nobody can say what became of them", a.Untraced)
	}
	if a.Others > a.Cut {
		r.broke("Kafka has events of %d requests that no client sent or saw answered, but only %d got no response", a.Others, a.Cut)
	}
	if a.Different > 0 {
		r.broke("Kafka and ClickHouse count %d rays differently", a.Different)
	}
	if a.Repeated > 0 {
		r.broke("%d events were written twice, and %d repeats were counted as possible", a.Repeated, a.Repeats)
	}
	if a.Delivered < a.Events {
		r.broke("the job delivered %d of %d events", a.Delivered, a.Events)
	}
	for what, why := range w.lastWrong {
		r.broke("while nothing was broken, it was refused to %s: %s", what, why)
	}
	if len(r.Growth) < len(tolerances) {
		r.broke("only %d of %d numbers could be sampled in both phases without faults", len(r.Growth), len(tolerances))
	}
	for _, g := range r.Growth {
		if g.Grew {
			r.broke("%s grew from %.0f to %.0f, and may become %.0f", g.What, g.Before, g.After, g.Tolerance)
		}
	}
	r.Passed = len(r.Broke) == 0
}

func (r *report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	person := r.text()
	fmt.Print("\n", person)
	return errors.Join(os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o644), // #nosec G306 -- a report
		os.WriteFile(filepath.Join(dir, "report.txt"), []byte(person), 0o644)) // #nosec G306
}

func (r *report) text() string {
	var b strings.Builder
	a := &r.Accounts
	fmt.Fprintf(&b, "seed        %d, %s at %d requests/s, from %s\n", r.Seed, r.Duration, r.Rate, r.Began.Format(time.RFC3339))
	fmt.Fprintf(&b, "requests    %d: %d answered (%s), %d without a response, %d without a ray\n", a.Requests, a.Answered, counts(a.ByStatus), a.Cut, a.Untraced)
	fmt.Fprintf(&b, "events      %d in Kafka, %d rows in ClickHouse, %d delivered by the job; %d were injected, %d are of requests without a response\n", a.Events, a.Rows, a.Delivered, a.Injected, a.Others)
	fmt.Fprintf(&b, "lost        %d at kills of the whole platform, answered at most %d ms before; %d otherwise, of %d that were dropped and counted\n", a.Lost, a.OldestMs, a.Missing, a.Dropped)
	fmt.Fprintf(&b, "repeated    %d events were written twice; %d repeats were counted as possible\n", a.Repeated, a.Repeats)
	fmt.Fprintf(&b, "changes     %s\n", counts(r.Changes))
	fmt.Fprintf(&b, "            refused during faults: %s\n", counts(r.Refused))
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "fault       %s  %s %s: in force %d ms, well again after %d ms\n", f.At.Format("15:04:05"), f.Name, f.Note, f.InForceMs, f.RecoveredMs)
	}
	if len(r.Unreached) > 0 {
		fmt.Fprintf(&b, "no time     for %s: a longer -duration has it\n", strings.Join(r.Unreached, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unavailable)) {
		fmt.Fprintf(&b, "not had     %s: %s\n", name, r.Unavailable[name])
	}
	for _, g := range r.Growth {
		fmt.Fprintf(&b, "growth      %s: %.0f, later %.0f; may become %.0f\n", g.What, g.Before, g.After, g.Tolerance)
	}
	fmt.Fprintf(&b, "stopped in  %s\n%s", r.StoppedIn, r.Verify)
	for _, sentence := range r.Broke {
		fmt.Fprintf(&b, "BROKE       %s\n", sentence)
	}
	if r.Passed {
		b.WriteString("passed\n")
	}
	return b.String()
}

func counts(m map[string]int) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s %d", name, m[name]))
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
