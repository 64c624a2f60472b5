package logpush

import "sync/atomic"

// budget bounds the memory of all batches of the process, whatever their jobs'
// bounds are and however slow their destinations. The first half of it is for
// whoever comes. The second half is divided evenly, so that destinations which
// hang, and hold what they were given, leave everybody else the means to go on.
type budget struct {
	limit   int64 // bytes
	used    atomic.Int64
	members atomic.Int64
}

// holding is one delivery's part of a budget. It belongs to the delivery's goroutine.
type holding struct {
	budget *budget
	used   int64
}

func (b *budget) open() *holding {
	b.members.Add(1)
	return &holding{budget: b}
}

func (a *holding) close() {
	a.set(0)
	a.budget.members.Add(-1)
}

// set notes how many bytes the delivery holds.
func (a *holding) set(used int64) {
	a.budget.used.Add(used - a.used)
	a.used = used
}

// over reports whether the delivery holds more than it may. It then sends what it
// has, and begins nothing new before some of that is gone. A delivery that holds
// nothing is never over: one record is always allowed.
func (a *holding) over() bool {
	return a.used > 0 && a.budget.used.Load() > a.budget.limit/2 && a.used > a.budget.share()
}

// share is what each delivery may hold however much others do.
func (b *budget) share() int64 { return b.limit / 2 / max(b.members.Load(), 1) }
