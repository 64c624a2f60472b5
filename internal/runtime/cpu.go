package runtime

import (
	"bytes"
	"context"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// meter finds the CPU time of single invocations of one process. The runtime has no
// accounting of them; the kernel has one of the process's first thread, on which all
// of its JavaScript runs. What that uses from before a request is sent until its
// invocation is told is the invocation's if nothing else was in the process meanwhile:
//
//   - Whatever has the process run code is entered in untold before it does, and takes
//     sole from what is there. So a reading of the clock followed by a look at
//     sole is of a time in which nothing else began.
//   - What is in hand and was told already, such as a response that is still being
//     read, counts as busy, and a request that finds the process busy is not alone.
//   - Where code can run that is not entered, nothing is attributed: see attributable,
//     and untold.mixed for what shows only later.
//
// What the thread does for an invocation beside running its code is in that too. The larger
// part is known: a health check is an empty request, and measured when nothing else is
// there. Its average, 0.3 to 0.5 ms, is taken off for the request itself and for each
// health check meanwhile. What is left for an empty handler, 0.1 to 0.6 ms, is above all
// the item for the tail Worker, which begins before the router can see that the invocation
// has ended: at the response's header it has not, and the kernel's figure of a running
// thread is up to a tick old. A handler that waits costs 0.5 ms more, 100 kB of logs 1 ms,
// and a second of waiting 0.1 ms. Rounded down to whole milliseconds, the dataset's unit,
// the figure of a handler with little to log is right to one millisecond. Threads of V8
// that collect garbage or compile are not in it.
//
// Its methods may be called concurrently.
type meter struct {
	clock  *threadClock // nil where nothing can be attributed
	busy   *atomic.Int64
	untold *untold

	// Of the request that is alone: written before it is sent, read when it is told.
	start      atomic.Int64 // of the clock; negative if it could not be read
	pingsUntil atomic.Int64 // that had ended by then

	pingsBegun, pingsEnded atomic.Int64
	pingCost               atomic.Int64 // nanoseconds; 0 while it is not known
	pingsMeasured          int          // belongs to the one goroutine that pings
}

// scheduledKey is the name in untold of runs of the scheduled handler, which have no ray.
const scheduledKey = "scheduled"

const (
	// clockTries and clockPause bound how long the end of an invocation waits for the
	// thread to sleep: it has just sent what was read, and has nothing else to do.
	clockTries = 20
	clockPause = 50 * time.Microsecond
)

// open starts to measure a process that listens.
func (m *meter) open(pid int) error {
	clock, err := openThreadClock(pid)
	if err != nil {
		return err
	}
	m.clock = clock
	return nil
}

func (m *meter) close() error {
	if m.clock == nil {
		return nil
	}
	return m.clock.close()
}

// begin enters a request of which the caller is counted as busy, before it is sent.
func (m *meter) begin(key string) {
	// Whoever comes after this look at busy takes sole away.
	if !m.untold.add(key, m.clock != nil && m.busy.Load() == 1) {
		return
	}
	m.pingsUntil.Store(m.pingsEnded.Load())
	// Asleep or not at all: a thread that still works for what was before would be
	// counted for this.
	start, ok := m.clock.read()
	if !ok {
		start = -1
	}
	m.start.Store(int64(start))
}

// failed takes out a request that is not waited for: what was not sent, and what the
// runtime may never have seen because its client left.
func (m *meter) failed(ctx context.Context, key string, err error) {
	switch {
	case err == nil:
	case unsent(err):
		m.untold.remove(key)
	case ctx.Err() != nil:
		m.untold.leave(key)
	}
}

// told takes an invocation out of untold, and gives it its CPU time if that is known.
func (m *meter) told(inv *schema.Invocation) {
	var key string
	switch {
	case inv.EventType == "fetch" && inv.ExecutionModel == executionStateless:
		key = inv.RayID
	case inv.EventType == "scheduled":
		key = scheduledKey
	default:
		m.untold.mix()
		return
	}
	var used time.Duration
	ok := m.untold.sole.Load()
	if ok {
		used, ok = m.used()
	}
	if m.untold.told(key) && ok { // in this order: the look at the clock is what must have been alone
		ms := used.Milliseconds()
		inv.CPUTimeMs = &ms
	}
}

// used returns what the thread has used since the request that is alone began.
func (m *meter) used() (time.Duration, bool) {
	start := m.start.Load()
	if start < 0 {
		return 0, false
	}
	now, ok := m.settled()
	if !ok {
		return 0, false
	}
	cost := m.pingCost.Load()
	requests := 1 + m.pingsBegun.Load() - m.pingsUntil.Load() // itself is one, and so is each ping
	return max(now-time.Duration(start+requests*cost), 0), cost > 0
}

// settled reads the clock of a thread that is about to sleep, with whatever it still does.
func (m *meter) settled() (time.Duration, bool) {
	for try := 0; ; try++ {
		now, ok := m.clock.read()
		if ok || try == clockTries {
			return now, ok
		}
		time.Sleep(clockPause)
	}
}

// ping sends a health check, and measures it where nothing else is in the process.
func (m *meter) ping(send func() error) error {
	var start time.Duration
	begun, idle := m.idle()
	if idle {
		start, idle = m.settled()
	}
	m.pingsBegun.Add(1)
	err := send()
	m.pingsEnded.Add(1)
	if !idle || err != nil {
		return err
	}
	now, ok := m.settled()
	if after, idle := m.idle(); ok && idle && after == begun {
		m.learn(now - start)
	}
	return nil
}

func (m *meter) idle() (begun uint64, idle bool) {
	if m.clock == nil || m.busy.Load() != 0 {
		return 0, false
	}
	return m.untold.empty()
}

// learn takes in what a ping has cost. The first one is left out: it compiles our code.
func (m *meter) learn(cost time.Duration) {
	m.pingsMeasured++
	switch old := m.pingCost.Load(); m.pingsMeasured {
	case 1:
	case 2:
		m.pingCost.Store(max(int64(cost), 1))
	default:
		m.pingCost.Store(max(old+(int64(cost)-old)/8, 1))
	}
}

// attributable reports whether a version's code runs only in invocations that came
// from outside. Durable Objects have alarms and calls that the router does not see.
// By ctx.exports, or the import of that name whatever the compatibility date, a Worker
// invokes itself: the inner invocation may go on after the outer one was told, and
// is told of only when it has ended. Whoever uses that must spell the word in one of its
// modules; CommonJS does so too, and is given up with it. Code that hides the word
// shows at the first such invocation, see untold.told.
func attributable(worker *deploy.Worker, modules map[string]string) (bool, error) {
	callsObjects := func(b deploy.Binding) bool { return b.Type == deploy.BindingDurableObject }
	if len(worker.DurableObjects) > 0 || slices.ContainsFunc(worker.Bindings, callsObjects) {
		return false, nil
	}
	for _, m := range worker.Modules {
		if m.ContentType == deploy.ModuleTypeSourceMap {
			continue
		}
		text, err := os.ReadFile(modules[m.SHA256])
		if err != nil {
			return false, err
		}
		if bytes.Contains(text, []byte("exports")) {
			return false, nil
		}
	}
	return true, nil
}

// openMeter starts to measure where that is sound and the kernel can tell. Elsewhere
// CPU times are absent.
func (in *instance) openMeter(worker *deploy.Worker, modules map[string]string) error {
	ok, err := attributable(worker, modules)
	if err != nil || !ok {
		return err
	}
	if err := in.meter.open(in.proc.pid); err != nil {
		in.set.log.Debug("CPU times of a Worker are not measured", "version_id", in.versionID, "error", err)
	}
	return nil
}
