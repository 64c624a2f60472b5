package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/schema"
	"tidegate/test/platform"
	"tidegate/test/proc"
)

// Faults by the names that the report uses.
const (
	faultPlatform   = "kill -9 of the whole platform"
	faultEngine     = "kill -9 of the ClickHouse engine"
	faultWorkerd    = "kill -9 of a Workers runtime"
	faultPause      = "all processes stopped, as on a suspended machine"
	faultFullDisk   = "full disk"
	faultFrozenDisk = "disk that hangs"
	faultSlowDisk   = "slow disk"
	faultMemory     = "memory pressure"
	faultClock      = "events whose clock is off"
	faultAhead      = "wall clock set forward by an hour"
	faultBehind     = "wall clock set back by an hour"
)

// laterFaults leave the platform's main process alive.
var laterFaults = []string{faultEngine, faultWorkerd, faultPause, faultFullDisk, faultFrozenDisk, faultSlowDisk, faultMemory, faultClock, faultAhead, faultBehind}

// fault is what was done, for the report.
type fault struct {
	Name      string    `json:"name"`
	At        time.Time `json:"at"`
	Note      string    `json:"note,omitempty"`
	InForceMs int64     `json:"in_force_ms"`
	// RecoveredMs is how long after its end both scripts were served and a new event was stored.
	RecoveredMs int64 `json:"recovered_ms"`
}

// kill is one of the whole platform, which may cost the events of the last moments.
type kill struct {
	at          time.Time
	incarnation int
}

const (
	// recoveryTimeout bounds the way back from any fault, on a busy machine.
	recoveryTimeout = 2 * time.Minute
	inForce         = 4 * time.Second
)

// breakThings plays the phases. Its error is about a fault that could not be undone: the rest would measure nothing.
func (w *world) breakThings(ctx context.Context, ph phases, dice *rand.Rand) error {
	for first := true; first || time.Now().Before(ph.calm.Add(-30*time.Second)); first = false {
		pause(ctx, time.Duration(2000+dice.IntN(5000))*time.Millisecond)
		if err := w.play(ctx, faultPlatform); err != nil {
			return err
		}
	}
	pause(ctx, time.Until(ph.faults))
	for ctx.Err() == nil && time.Now().Before(ph.last) {
		for _, i := range dice.Perm(len(laterFaults)) {
			if ctx.Err() != nil || time.Now().After(ph.last) {
				break
			}
			if err := w.play(ctx, laterFaults[i]); err != nil {
				return fmt.Errorf("%s: %w", laterFaults[i], err)
			}
			pause(ctx, time.Duration(500+dice.IntN(1500))*time.Millisecond)
		}
	}
	pause(ctx, time.Until(ph.end))
	return nil
}

// play has one fault in force for a while, and waits until the platform is well again.
func (w *world) play(ctx context.Context, name string) error {
	if w.disk.unavailable[name] != "" || !w.o.faults.MatchString(name) {
		return nil
	}
	w.troubled.Add(1)
	defer w.troubled.Add(-1)
	f := fault{Name: name, At: time.Now().UTC()}
	undo, note, err := w.begin(ctx, name)
	if gone, ok := errors.AsType[*unavailable](err); ok {
		w.disk.unavailable[name] = gone.Error()
		return nil
	}
	if err != nil {
		if undo != nil {
			err = errors.Join(err, undo())
		}
		return err
	}
	fmt.Printf("%s  %s %s\n", time.Now().UTC().Format("15:04:05"), name, note)
	if undo != nil {
		pause(ctx, inForce)
		if err := undo(); err != nil {
			return err
		}
	}
	f.Note, f.InForceMs = note, time.Since(f.At).Milliseconds()
	ended := time.Now()
	if err := w.recover(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("not well again %s after its end: %w", recoveryTimeout, err)
	}
	f.RecoveredMs = time.Since(ended).Milliseconds()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, f)
	return nil
}

// unavailable is why a fault cannot be had on this machine.
type unavailable struct{ error }

// begin breaks something. Without an undo it is over at once.
func (w *world) begin(ctx context.Context, name string) (undo func() error, note string, err error) {
	pid := w.platform().Process().Pid()
	switch name {
	case faultPlatform:
		return nil, "", w.killPlatform(ctx)
	case faultEngine:
		return nil, "", signalOne(pid, "engine-child")
	case faultWorkerd:
		return nil, "", signalOne(pid, "workerd")
	case faultPause:
		all := proc.Tree(pid)
		signalAll(all, syscall.SIGSTOP)
		return func() error { signalAll(all, syscall.SIGCONT); return nil }, fmt.Sprintf("(%d processes)", len(all)), nil
	case faultFullDisk:
		undo, err = w.disk.fill()
		return undo, "", err
	case faultFrozenDisk:
		undo, err = w.disk.freeze()
		return undo, "", err
	case faultSlowDisk:
		return w.disk.slow(proc.Tree(pid))
	case faultMemory:
		undo, err = squeeze(proc.Tree(pid))
		return undo, fmt.Sprintf("(%d MiB beyond what they have)", squeezeBytes>>20), err
	case faultClock:
		return nil, "", w.injectEvents(ctx)
	case faultAhead:
		return w.setClock(ctx, clockOff)
	case faultBehind:
		return w.setClock(ctx, -clockOff)
	}
	return nil, "", fmt.Errorf("nobody knows how to do %q", name)
}

// killPlatform kills every process of it at one moment, and starts it anew.
func (w *world) killPlatform(ctx context.Context) error {
	p := w.platform()
	all := proc.Tree(p.Process().Pid())[1:]
	w.mu.Lock()
	w.kills = append(w.kills, kill{time.Now(), len(w.kills)})
	w.mu.Unlock()
	p.Process().Kill()
	signalAll(all, syscall.SIGKILL)
	return w.start(context.WithoutCancel(ctx))
}

// recover waits until both scripts answer and a new event of each has been stored.
func (w *world) recover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoveryTimeout)
	defer cancel()
	for _, script := range []string{worker, origin} {
		var last asked
		err := platform.Poll(ctx, func() (bool, error) {
			select {
			case <-w.platform().Process().Done():
				return false, errors.New("the platform's process has ended")
			default:
			}
			last = w.ask(ctx, script, 0, 2, false)
			w.mu.Lock()
			w.asked = append(w.asked, last)
			w.mu.Unlock()
			return last.status == http.StatusOK, nil
		})
		if err != nil {
			return fmt.Errorf("%s answers %d: %w", script, last.status, err)
		}
		var said error
		err = platform.Poll(ctx, func() (bool, error) {
			n, err := w.platform().Count(ctx, "SELECT count() FROM trace_events WHERE ray_id = '"+last.ray+"'")
			if err != nil && ctx.Err() == nil {
				said = err
			}
			return err == nil && n > 0, nil
		})
		if err != nil {
			return fmt.Errorf("the event %s of %s is not seen in ClickHouse: %w", last.ray, script, errors.Join(err, said))
		}
	}
	return nil
}

// injectEvents writes events as gateways would whose clocks are off, some by years.
func (w *world) injectEvents(ctx context.Context) error {
	p := w.platform()
	now := time.Now()
	var messages []kafka.Message
	var rays []string
	for i, off := range []time.Duration{-2 * time.Hour, 2 * time.Hour, -26 * time.Hour, 26 * time.Hour, -5 * 365 * 24 * time.Hour, 5 * 365 * 24 * time.Hour, -time.Second, time.Second} {
		e := schema.TraceEvent{
			EventTimestampMs: now.Add(off).UnixMilli(), EventType: "fetch", Outcome: schema.OutcomeOK, ScriptName: "clock",
			Event: []byte(`{"Request":{"URL":"http://clock/","Method":"GET"},"Response":{"Status":200}}`),
		}
		e.Gateway.RayID = fmt.Sprintf("%012x%04x", now.UnixMicro(), i)
		rays = append(rays, e.Gateway.RayID)
		messages = append(messages, kafka.Message{Value: e.AppendJSON(nil), Headers: []kafka.Header{
			{Key: "account", Value: []byte(p.AccountID)}, {Key: "schema", Value: []byte(schema.EventSchemaVersion)},
		}})
	}
	transport := &kafka.Transport{} // the default one keeps connections, which a fault in between has ended
	defer transport.CloseIdleConnections()
	out := &kafka.Writer{Addr: kafka.TCP(p.Kafka), Transport: transport, Topic: schema.Topic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, MaxAttempts: 1}
	defer out.Close() //nolint:errcheck // WriteMessages waits for all
	if err := out.WriteMessages(ctx, messages...); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.injected = append(w.injected, rays...)
	return nil
}

func signalAll(pids []int, signal syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, signal) // it may have ended
	}
}

// signalOne kills the first descendant whose command line has a word.
func signalOne(pid int, word string) error {
	child, err := proc.Descendant(pid, word)
	if err != nil {
		return err
	}
	return syscall.Kill(child, syscall.SIGKILL)
}
