package listen

import (
	"net"
	"net/netip"
	"sync"
)

// clientBits of an IPv6 address are one client: a network of this size is the least
// that anybody is given.
const clientBits = 64

// perClient counts the connections that each client has open. The zero value bounds
// nothing.
type perClient struct {
	max    int            // 0 bounds nothing
	exempt []netip.Prefix // balancers: behind one address of theirs are many clients

	mu   sync.Mutex
	open map[netip.Addr]int
}

// key returns what a connection is counted under, and false for one that is not
// counted.
func (p *perClient) key(peer net.Addr) (netip.Addr, bool) {
	tcp, ok := peer.(*net.TCPAddr)
	if p.max == 0 || !ok {
		return netip.Addr{}, false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, prefix := range p.exempt {
		if prefix.Contains(addr) {
			return netip.Addr{}, false
		}
	}
	if addr.Is6() {
		prefix, err := addr.Prefix(clientBits)
		if err != nil {
			return netip.Addr{}, false // no address has fewer bits
		}
		addr = prefix.Addr()
	}
	return addr, addr.IsValid()
}

// take counts one connection more, unless its client has as many as it may.
func (p *perClient) take(key netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] >= p.max {
		return false
	}
	if p.open == nil {
		p.open = map[netip.Addr]int{}
	}
	p.open[key]++
	return true
}

func (p *perClient) release(key netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key]--; p.open[key] == 0 {
		delete(p.open, key)
	}
}
