package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/addresses"
)

const (
	// lookTTL is how long an answer of a look-up counts: what the platform needs may be
	// made anew at another address at any time, and a job tries again and again.
	lookTTL = 2 * time.Second
	// lookTimeout bounds all look-ups of a kind, within dialTimeout of whoever waits.
	lookTimeout = time.Second
	// keepFor is how long an address of a name counts after it was last in an answer: a name server may
	// give some of them at a time, in turn, and others to whoever asks next.
	keepFor = 10 * time.Minute
	// keepMax bounds what counts of a name, but for the last answer.
	keepMax = 256
)

// Platform knows where the platform itself is: what trusts whoever reaches it. Names are
// looked up again when they are asked about, because the service behind one that is made
// anew has another address. A nil Platform is nowhere. It is safe for concurrent use.
type Platform struct {
	Meanwhile string // what happens while some of it cannot be told, for the log; set before use

	log     *slog.Logger
	ranges  []portRange // that need no look-up
	names   []hostPort
	brokers func(ctx context.Context) ([]string, error) // nil for none

	mu         sync.Mutex // for what follows
	lookedUp   time.Time
	known      map[string][]sighting // by host, what seen keeps
	advertised []hostPort            // what brokers said last
	heard      bool                  // brokers has answered once
	missing    []string              // what could not be told the last time

	now atomic.Pointer[[]portRange] // what is refused, by the last look; written under mu
}

// portRange is what is refused: addresses, and of them a port, or with 0 every port. A
// single unspecified address (0.0.0.0, ::) stands for every address of this machine.
type portRange struct {
	addresses netip.Prefix
	port      uint16
}

// hostPort is a name, and a port or 0 for every port.
type hostPort struct {
	host string
	port uint16
}

// NewPlatform takes hosts, host:ports, addresses and ranges of addresses. brokers, if there
// are any, tells where Kafka's brokers say that they are, as host:port.
func NewPlatform(own []string, brokers func(ctx context.Context) ([]string, error), log *slog.Logger) (*Platform, error) {
	p := &Platform{log: log, brokers: brokers, known: map[string][]sighting{}}
	for _, text := range own {
		at, name, err := parse(text)
		switch {
		case err != nil:
			return nil, err
		case name != "":
			p.names = append(p.names, hostPort{name, at.port})
		default:
			p.ranges = append(p.ranges, at)
		}
	}
	p.now.Store(&p.ranges)
	return p, nil
}

// Has reports whether to is the platform's, by the last look. It asks nobody, and takes what could
// never be told yet for somebody else's: it is for connections that must wait for no name server
// and no Kafka, and must be made while these are away.
func (p *Platform) Has(to netip.AddrPort) bool { return p != nil && refuses(*p.now.Load(), to) }

// Look looks names up now, unless that was just done.
func (p *Platform) Look(ctx context.Context) { p.look(ctx) }

// Run keeps what Has knows fresh until ctx ends.
func (p *Platform) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			p.Look(ctx)
			timer.Reset(lookTTL)
		}
	}
}

// Check says why NewPlatform does not take a text, or nil.
func Check(text string) error {
	_, _, err := parse(text)
	return err
}

// parse reads a host, a host:port, an address or a range of addresses. The host is empty for
// what needs no look-up.
func parse(text string) (at portRange, host string, err error) {
	fault := func(err error) (portRange, string, error) {
		return portRange{}, "", fmt.Errorf("%q must be a host, host:port, or a range of addresses such as 10.0.0.0/8: %w", text, err)
	}
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fault(err)
		}
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		return portRange{addresses: prefix.Masked()}, "", nil
	}
	host = text
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return single(addr, 0), "", nil
	}
	if strings.Contains(text, ":") {
		var portName string
		if host, portName, err = net.SplitHostPort(text); err != nil {
			return fault(err)
		}
		port, err := strconv.ParseUint(portName, 10, 16)
		if err != nil || port == 0 {
			return fault(fmt.Errorf("%q is no port", portName))
		}
		at.port = uint16(port)
		if host == "" { // a listener on every address
			host = "::"
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return single(addr, at.port), "", nil
	}
	if host == "" || strings.ContainsAny(host, " \t@?#[]") {
		return fault(errors.New("that is no host"))
	}
	return at, host, nil
}

// single is one address. One that is translated stands for where it leads, which refuses looks at, too.
func single(addr netip.Addr, port uint16) portRange {
	addr = addresses.Translated(addr)
	return portRange{netip.PrefixFrom(addr, addr.BitLen()), port}
}

// look returns what is refused now, and whether that is all of it: not while a name cannot
// be resolved, and not before the brokers were heard once. That a name does not exist is an
// answer where the operator has named ranges.
func (p *Platform) look(ctx context.Context) (refused []portRange, complete bool) {
	if p == nil {
		return nil, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.lookedUp) >= lookTTL {
		// Others wait for the answer, too, so that it must not end with this one's dial.
		p.lookUpLocked(context.WithoutCancel(ctx))
		p.lookedUp = time.Now()
	}
	return *p.now.Load(), len(p.missing) == 0
}

func (p *Platform) lookUpLocked(ctx context.Context) {
	var missing []string
	heardErr := p.askBrokersLocked(ctx)
	if heardErr != nil && !p.heard {
		missing = append(missing, "the brokers that Kafka names")
	}
	names := slices.Concat(p.names, p.advertised)
	failed := p.resolveLocked(ctx, names)
	now := slices.Clone(p.ranges)
	for _, name := range names {
		for _, s := range p.known[name.host] {
			now = append(now, single(s.addr, name.port))
		}
	}
	p.now.Store(&now)
	why := []error{heardErr}
	for _, host := range slices.Sorted(maps.Keys(failed)) {
		if dns, ok := errors.AsType[*net.DNSError](failed[host]); ok && dns.IsNotFound && p.bounded() {
			continue // a container that is stopped has no name, and no job need wait for it
		}
		missing, why = append(missing, host), append(why, failed[host])
	}
	p.tellLocked(ctx, missing, errors.Join(why...))
}

// bounded reports whether the operator has said in which ranges the platform is, and not only
// where some of it is.
func (p *Platform) bounded() bool {
	return slices.ContainsFunc(p.ranges, func(r portRange) bool { return !r.addresses.IsSingleIP() })
}

// askBrokersLocked asks where the brokers are. Those of the last answer count as long as there is
// no other: that Kafka is away opens nothing.
func (p *Platform) askBrokersLocked(ctx context.Context) error {
	if p.brokers == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	list, err := p.brokers(ctx)
	if err != nil {
		return err
	}
	var advertised []hostPort
	for _, text := range list {
		at, host, err := parse(text)
		if err != nil {
			return err
		}
		if host == "" {
			host = at.addresses.Addr().String() // resolves to itself
		}
		advertised = append(advertised, hostPort{host, at.port})
	}
	p.advertised, p.heard = advertised, true
	return nil
}

// resolveLocked looks names up, all at once, into known. It returns the errors by host;
// such a host keeps the addresses that it had.
func (p *Platform) resolveLocked(ctx context.Context, names []hostPort) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	type answer struct {
		host string
		ips  []netip.Addr
		err  error
	}
	hosts := map[string]bool{}
	for _, name := range names {
		hosts[name.host] = true
	}
	answers := make(chan answer, len(hosts))
	for host := range hosts {
		go func() {
			ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			answers <- answer{host, ips, err}
		}()
	}
	failed := map[string]error{}
	for range hosts {
		a := <-answers
		if a.err != nil {
			failed[a.host] = a.err
			continue
		}
		p.known[a.host] = seen(p.known[a.host], a.ips, time.Now())
	}
	return failed
}

// sighting is an address that a name had, and when it was last in an answer.
type sighting struct {
	addr netip.Addr
	at   time.Time
}

// seen returns what counts of a name after an answer: what is in it, and of what was known before, newest
// first, what is not too old.
func seen(known []sighting, answer []netip.Addr, now time.Time) []sighting {
	var list []sighting
	for _, addr := range answer {
		list = append(list, sighting{addr, now})
	}
	for _, s := range known {
		if len(list) < keepMax && now.Sub(s.at) < keepFor && !slices.Contains(answer, s.addr) {
			list = append(list, s)
		}
	}
	return list
}

// tellLocked logs what changed of what is missing.
func (p *Platform) tellLocked(ctx context.Context, missing []string, why error) {
	switch {
	case slices.Equal(missing, p.missing):
		return
	case len(missing) > 0:
		p.log.WarnContext(ctx, "where the platform itself is cannot be told", "meanwhile", p.Meanwhile, "missing", missing, "error", why)
	default:
		p.log.InfoContext(ctx, "where the platform itself is can be told again")
	}
	p.missing = missing
}

// refuses reports whether to is one of the refused addresses. It errs on the
// side of refusing when this machine's addresses cannot be listed.
func refuses(refused []portRange, to netip.AddrPort) bool {
	dialled := plain(to.Addr())
	if dialled.IsUnspecified() { // the kernel takes it for loopback
		dialled = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if to.Addr().Unmap().Is6() {
			dialled = netip.IPv6Loopback()
		}
	}
	leadsTo := addresses.Translated(dialled)
	return slices.ContainsFunc(refused, func(r portRange) bool {
		return (r.port == 0 || r.port == to.Port()) && (r.has(dialled) || leadsTo != dialled && r.has(leadsTo))
	})
}

// has reports whether addr, in the form that plain gives, is one of the addresses.
func (r portRange) has(addr netip.Addr) bool {
	return r.addresses.Contains(addr) || r.addresses.IsSingleIP() && r.addresses.Addr().IsUnspecified() && isLocal(addr)
}

// plain is addr in the one form that can be compared: IPv4 out of IPv6, no zone.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// isLocal reports whether addr is an address of this machine, as of now.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && plain(prefix.Addr()) == addr
	})
}
