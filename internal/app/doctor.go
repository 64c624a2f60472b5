package app

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/pflag"
)

// Judgement of a check.
type Judgement string

// The judgements. A fault keeps something from working, a warning may come to that, and
// unknown is what nobody could look at.
const (
	JudgedOK      Judgement = "ok"
	JudgedWarning Judgement = "warning"
	JudgedFault   Judgement = "fault"
	JudgedUnknown Judgement = "unknown"
)

// Finding is what a check says: what is so, and what to do about it.
type Finding struct {
	Check    string    `json:"check"`
	State    Judgement `json:"state"`
	Sentence string    `json:"sentence"`
	Advice   string    `json:"advice,omitempty"` // empty where nothing is to be done
}

func ok(check, format string, args ...any) Finding {
	return Finding{check, JudgedOK, fmt.Sprintf(format, args...), ""}
}

// DoctorConfig says what to look at.
type DoctorConfig struct {
	Config                // of the process, with the addresses of a platform that runs in DataDir
	Flags  *pflag.FlagSet // that Config was read from
	// Embedded has "tidegate up" run what Config does not name.
	Embedded bool
	API      string // base URL; empty for none
	Token    string
	// More checks of this machine, by those who know what is embedded.
	More []func() Finding
}

// Doctor looks for common faults: of this machine, and of every service that is named. It changes
// nothing. Services are asked at once; each gets probeTimeout for an answer.
func Doctor(ctx context.Context, c DoctorConfig) []Finding {
	machine := c.machine(time.Now())
	groups := []func(context.Context) []Finding{c.kafka, c.engine, c.database, c.controlPlane}
	found := make([][]Finding, len(groups))
	var all sync.WaitGroup
	for i, look := range groups {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout) // several questions
			defer cancel()
			found[i] = look(ctx)
		})
	}
	all.Wait()
	for _, list := range found {
		machine = append(machine, list...)
	}
	return machine
}

// machine looks at what this machine and the settings have.
func (c *DoctorConfig) machine(now time.Time) []Finding {
	var list []Finding
	for _, fault := range filesMissing(c.Flags) {
		list = append(list, Finding{"files", JudgedFault, fault.Error() + ".", "Correct the path, or let this process's user read the file."})
	}
	if c.has(RoleGateway) { // other roles keep nothing on this machine
		lock := lookAtLock(filepath.Join(c.DataDir, "lock"))
		list = append(list, dataDirFinding(c.DataDir, c.Embedded && c.Database == ""), spaceOf(c.DataDir), c.lockFinding(lock))
		if !lock.held {
			list = append(list, c.portFindings()...)
		}
	} else {
		list = append(list, c.portFindings()...)
	}
	list = append(list, openFilesFinding(openFilesMax()))
	list = append(list, certificateFindings(c.Flags, now)...)
	if c.has(RoleGateway) {
		list = append(list, workerdFinding(c.Workers.Workerd))
	}
	for _, check := range c.More {
		list = append(list, check())
	}
	return list
}

const (
	skewWarning = time.Second
	// skewFault is by how much a block of events may be ahead of ClickHouse's clock, which
	// refuses later ones (012_inserted_in_time.sql).
	skewFault = 5 * time.Second
)

// clockFinding compares a clock with this machine's; within is how far the measurement may be off.
func clockFinding(check, whose string, skew, within time.Duration) Finding {
	beyond := skew.Abs() - within
	text := fmt.Sprintf("The clock of %s is %s ahead of this machine's.", whose, skew.Round(time.Millisecond))
	if skew < 0 {
		text = fmt.Sprintf("The clock of %s is %s behind this machine's.", whose, (-skew).Round(time.Millisecond))
	}
	const advice = "Have both machines set their clocks by NTP: chronyc tracking, or timedatectl, tells whether they do."
	switch {
	case beyond >= skewFault:
		return Finding{check, JudgedFault, text + " Blocks of events are refused beyond 5s, and leases end at the wrong time.", advice}
	case beyond >= skewWarning:
		return Finding{check, JudgedWarning, text, advice}
	default:
		return ok(check, "The clock of %s agrees with this machine's.", whose)
	}
}
