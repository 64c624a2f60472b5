package runtime

import (
	"fmt"
	"sync"
)

const (
	// A process is worth placeBytes of the machine's memory by default: an idle one has
	// 13 MiB of its own, and shares the rest with the others.
	placeBytes = 32 << 20
	placesMin  = 64  // by default
	placesElse = 256 // by default, where the machine's memory is not known
)

func defaultProcesses() int {
	total, err := memoryTotal()
	if err != nil {
		return placesElse
	}
	return max(placesMin, int(total/placeBytes))
}

// places bounds the processes that there are at once. Without a bound, a script for
// each of ten thousand customers, or a walk over the preview hosts, would take the
// machine's memory, and the kernel would choose what ends. Its methods may be called
// concurrently.
type places struct {
	max int

	mu     sync.Mutex
	taken  int
	wanted bool // somebody found no place since the last one was given back
}

func (p *places) take() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken >= p.max {
		p.wanted = true
		return fmt.Errorf("%d processes of Workers run here already, which is this router's limit", p.max)
	}
	p.taken++
	return nil
}

func (p *places) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.wanted = false
}

// crowded reports whether somebody waits for a place.
func (p *places) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted
}
