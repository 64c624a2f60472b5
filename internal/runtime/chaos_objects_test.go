package runtime

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Deployments that follow each other faster than the moves end lose nothing, and no
// call fails.
func TestFastDeploymentsFailNoCall(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 40)
	for range rounds(t, 5) {
		stop := c.load(t, rng, 4, 4)
		for range 1 + rng.IntN(8) {
			c.ramp(rng.IntN(101))
			pass(rng, 100*time.Millisecond)
		}
		stop()
		c.quiet(t)
		if rng.IntN(3) == 0 {
			c.next()
		}
	}
	c.check(t, -1)
}

// Processes die in the middle of moves.
func TestKilledVersionsLoseNothing(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 40)
	c.tolerant.Store(true)
	for range rounds(t, 10) {
		stop := c.load(t, rng, 4, 4)
		c.ramp(rng.IntN(101))
		pass(rng, 300*time.Millisecond)
		c.kill(t, rng.IntN(2))
		pass(rng, 500*time.Millisecond)
		stop()
		c.quiet(t)
		c.next() // one whose processes died often is not started again at once
	}
	c.check(t, -1)
}

// The alarm of an object is read when it moves. One that a message set right after
// that was deleted with it, and never rang.
func TestAlarmsThatMessagesSetDuringMovesRing(t *testing.T) {
	rng := seeded(t)
	c := newChaos(t, 8)
	ctx, cancel := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	for i := range c.objects {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		tasks.Go(func() {
			for ctx.Err() == nil {
				c.talk(ctx, t, own, strconv.Itoa(i), "arm")
				c.rung(t, strconv.Itoa(i))
			}
		})
	}
	for range rounds(t, 3) {
		for _, share := range []int{100, 0} {
			c.ramp(share)
			pass(rng, 500*time.Millisecond)
		}
	}
	cancel()
	tasks.Wait()
	c.check(t, -1)
}

// A move that was cut short had noted an alarm. What the object has set since counts:
// to be paid, the note made the alarm ring before its time, and then never.
func TestNotedAlarmsDoNotReplaceLaterOnes(t *testing.T) {
	c := newChaos(t, 1)
	c.callVia(t, c.backend(0), "arm", "0", 1500)
	n, name := c.only(t)
	if err := n.owe(&object{objectName: name}, time.Now().Add(-time.Hour).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	pass := &tidying{namespace: n}
	if pass.payAll(); pass.missed > 0 {
		t.Fatalf("an alarm was not paid: %v", pass.failed)
	}
	for _, list := range c.logs(t) {
		if len(list) != 2 {
			t.Errorf("it wrote %+v", list)
		}
	}
}

// An object that does not answer in time stays, and can be called as before, also when
// it has slept since.
func TestObjectsThatDoNotAnswerStay(t *testing.T) {
	if os.Getenv(longRounds) == "" {
		t.Skip("it takes half a minute; " + longRounds + " is not set")
	}
	c := newChaos(t, 1)
	c.callVia(t, c.backend(0), "block", "0", 13_000)
	n, name := c.only(t)
	o, err := n.take(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	err = n.move(t.Context(), o, c.pair[1])
	n.giveBack(o)
	if err == nil {
		t.Error("it moved")
	}
	c.callVia(t, c.backend(1), "add", "0", 0)
	<-time.After(13 * time.Second) // the runtime lets it sleep after ten
	c.callVia(t, c.backend(1), "add", "0", 0)
	c.check(t, 0)
}
