package lean

import (
	"net/http"
	"time"
)

// Instead of a timer for each wait of each connection, one goroutine looks at all of
// them. A state is stamped with the tick it began in, which costs a request two
// stores.
const (
	tickEvery = 50 * time.Millisecond
	// A request that takes longer than slowTicks has its client looked for at every
	// rareTicks-th tick only: streams and long polls come by the thousand.
	slowTicks, rareTicks = 20, 8
	// An idle connection is looked at for idleLookTicks: readOnce does not see a client that
	// closed its side before its last request was read. It is two, because the state may be
	// stamped with a tick whose sweep is over.
	idleLookTicks = 2
)

// state is what a connection waits for.
type state uint8

const (
	stateNew     state = iota // its first request
	stateIdle                 // its next request
	stateReading              // the rest of a header
	stateActive               // the handler
	stateRetired              // nothing: it is closed, or about to be
)

// A word is a state and the tick in which it began, changed together.
func wordOf(st state, tick int64) int64 { return tick<<8 | int64(st) }
func stateOf(word int64) state          { return state(word & 0xff) }
func tickOf(word int64) int64           { return word >> 8 }

func (s *Server) sweepUntilStopped() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		n := len(s.conns)
		s.mu.Unlock()
		if n == 0 { // sleep
			ticker.Stop()
			select {
			case <-s.stop:
				return
			case <-s.wake:
			}
			ticker.Reset(tickEvery)
		}
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.tick()
			s.sweep()
		}
	}
}

func (s *Server) tick() {
	s.ticks.Add(1)
	s.stampDate()
}

func (s *Server) stampDate() {
	date := time.Now().UTC().Format(http.TimeFormat)
	s.date.Store(&date)
}

// sweep ends waits that have taken too long, and cancels requests whose clients have left.
func (s *Server) sweep() {
	now := s.ticks.Load()
	headTicks, idleTicks := ticksOf(s.ReadHeaderTimeout), ticksOf(s.IdleTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		word := c.word.Load()
		age := now - tickOf(word)
		switch stateOf(word) {
		case stateNew, stateReading:
			if age > headTicks {
				c.retire(word)
			}
		case stateIdle:
			if age > idleTicks {
				c.retire(word)
			} else if age > 0 && age <= idleLookTicks && c.left() {
				c.wake()
			}
		case stateActive:
			if age > 0 && (age < slowTicks || now%rareTicks == 0) && c.bodyRead.Load() && c.left() {
				c.cancel()
			}
		case stateRetired:
		}
	}
}

func ticksOf(d time.Duration) int64 { return int64((d + tickEvery - 1) / tickEvery) }
