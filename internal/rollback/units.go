package rollback

import (
	"slices"
	"time"

	"tidegate/internal/deploy"
)

// advance goes on to a second: units that end before it are closed, and look-back times
// and the step begin.
func (e *evidence) advance(to time.Time) {
	if e.at.Before(e.from) && !to.Before(e.from) {
		for _, m := range e.measures {
			m.compare()
		}
	}
	for {
		next := e.unitEnd()
		if start := e.nextStart(); e.unit.empty && start.Before(next) {
			next = start
		}
		step := e.stepFrom
		if e.begun || step.IsZero() || step.Before(e.at) {
			step = to.Add(time.Second)
		}
		if step.Before(next) {
			next = step
		}
		if next.After(to) {
			break
		}
		if !e.unit.empty {
			e.closeUnit(next)
		} else {
			e.begin(next)
			if !next.Before(e.unitEnd()) {
				e.openUnit(next)
			}
		}
		if next.Equal(step) {
			e.beginStep()
		}
		e.at = maxTime(e.at, next)
	}
	e.at = maxTime(e.at, to)
	if !e.begun && !e.stepFrom.IsZero() && e.stepFrom.Before(e.at) {
		e.beginStep() // the clock went back, or the ramp's did: count from now on
	}
}

// unitEnd is when the open unit is over at the latest. Blocks lie where the beginning
// says, so that nobody's looking cuts them.
func (e *evidence) unitEnd() time.Time {
	if e.policy.Evidence != deploy.EvidenceBlocks {
		return e.unit.from.Add(unitMax)
	}
	length := e.blockLength()
	return e.from.Add(e.unit.from.Sub(e.from).Truncate(length) + length)
}

func (e *evidence) blockLength() time.Duration {
	if e.policy.BlockSeconds <= 0 {
		return deploy.DefaultBlockSeconds * time.Second
	}
	return time.Duration(e.policy.BlockSeconds) * time.Second
}

// nextStart is when the tests begin anew, or as soon after as no unit is open: short
// look-back times would else cut units into single requests, of which none is evidence.
func (e *evidence) nextStart() time.Time {
	return e.from.Add(time.Duration(e.starts) * lookBack(e.policy))
}

// begin lets the tests begin anew as often as they should have by a time at which no unit
// is open. When that is depends on arrivals alone.
func (e *evidence) begin(at time.Time) {
	if e.nextStart().After(at) {
		return
	}
	for !e.nextStart().After(at) {
		e.starts++
		for _, m := range e.measures {
			m.restart()
		}
	}
	if len(e.marks) == marksMax {
		e.marks = slices.Delete(e.marks, 1, 2)
	}
	e.marks = append(e.marks, mark{at, e.base})
	for _, m := range e.measures {
		if len(m.marks) == marksMax {
			m.marks = slices.Delete(m.marks, 1, 2)
		}
		m.marks = append(m.marks, m.total)
	}
}

func (e *evidence) beginStep() {
	e.begun, e.step = true, e.base
	for _, m := range e.measures {
		m.step = m.total
	}
}

func (e *evidence) openUnit(from time.Time) {
	e.unit = unit{from: from, empty: true, of: make([]pair, len(e.measures))}
}

// takeOpen lets the unit that is open count as it is, for a look. Not to the bounds: who looks
// chose the moment, and they are proven of whole units.
func (e *evidence) takeOpen(until time.Time) {
	if !e.unit.empty {
		e.unit.open = true
		e.closeUnit(until)
	}
}

// closeUnit lets a run of seconds count, and opens the next.
func (e *evidence) closeUnit(end time.Time) {
	u := e.unit
	e.base.add(u.base)
	for i, m := range e.measures {
		if e.policy.Evidence == deploy.EvidenceBlocks && !u.steady {
			continue
		}
		if m.kind == traffic && (e.cautious || !u.steady) {
			continue // a version whose requests take longer would look like one that answers fewer
		}
		var ok bool
		if e.policy.Evidence == deploy.EvidenceBlocks {
			ok = m.addBlock(u.of[i], u.told, e.cautious)
		} else {
			ok = m.add(u.of[i], u.told, e.cautious)
			if !u.open {
				m.bound(u.of[i], u.told, e.cautious)
			}
		}
		if !ok {
			e.doubtful++
		}
		if !e.cautious {
			m.below(u.of[i][baseline], e.policy.Evidence == deploy.EvidenceBlocks)
		}
		m.series.add(end, m.logE())
		if !m.known {
			m.compare()
		}
	}
	e.openUnit(end)
	e.begin(end)
}
