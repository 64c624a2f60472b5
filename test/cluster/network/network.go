// Package network is a network of hosts on one machine, made to be broken. Each host is
// a network namespace, or this program itself, with one TUN device. Whatever any host
// sends comes to this program, which passes it on, late, or not at all, as it is told.
// So a cut link is a silent one, as between machines: nobody is told that packets are lost.
//
// It needs root, iproute2 and /dev/net/tun, but no module of the kernel that drops or
// delays packets.
package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Subnet has all hosts. It is a private one, because destinations of Logpush may be
// allowed to lie there.
var Subnet = netip.MustParsePrefix("10.211.77.0/24")

// Link is what happens to packets on their way, in both directions.
type Link struct {
	Cut   bool
	Loss  float64 // share of the packets that are lost, 0 to 1
	Delay time.Duration
}

// Host is one end of a link. Ports are its own.
type Host struct {
	Name string
	// Addrs are its addresses; only this program's host has more than one.
	Addrs []netip.Addr

	namespace string // empty: this program's
	device    *os.File
}

// Addr is the host's first address.
func (h *Host) Addr() netip.Addr { return h.Addrs[0] }

// Port is host:port of the host's first address.
func (h *Host) Port(port uint16) string { return netip.AddrPortFrom(h.Addr(), port).String() }

// Command is what starts a program on the host, with the host's name as its host name.
// The process has the id of the command, because each part replaces the one before it.
func (h *Host) Command(program ...string) []string {
	return append([]string{"ip", "netns", "exec", h.namespace, "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, h.Name}, program...)
}

// Network is some hosts. Its methods may be called concurrently, but for Add.
type Network struct {
	prefix string // of the names of namespaces and devices
	hosts  map[netip.Addr]*Host
	list   []*Host
	next   netip.Addr
	run    sync.WaitGroup

	mu    sync.Mutex
	links map[[2]netip.Addr]*line
}

// line is a link with the packets that are under way on it.
type line struct {
	Link
	late chan late
}

// late is a packet whose time has not come.
type late struct {
	due    time.Time
	packet []byte
	to     *Host
}

// lateMax packets may be under way on a line: at a delay of 50 ms it is twice what a
// load of 10,000 packets a second needs. What comes beyond is lost, as in a router.
const lateMax = 1024

// New makes a network without hosts. The names of its namespaces begin with prefix, of at
// most 10 characters, so that whoever chose it can remove what a killed program left.
func New(prefix string) (*Network, error) {
	if err := usable(); err != nil {
		return nil, fmt.Errorf("make a network of namespaces: %w", err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if in, err := netip.ParsePrefix(a.String()); err == nil && Subnet.Contains(in.Addr()) {
			return nil, fmt.Errorf("this machine has the address %s, of the subnet %s, already: another run has not ended, or something else uses it", in.Addr(), Subnet)
		}
	}
	return &Network{prefix: prefix, hosts: map[netip.Addr]*Host{}, links: map[[2]netip.Addr]*line{}, next: Subnet.Addr().Next()}, nil
}

// usable says what is missing.
func usable() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, for network namespaces and TUN devices")
	}
	for _, program := range []string{"ip", "unshare", "hostname"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the program %s is not installed: it is in the Debian packages iproute2, util-linux and hostname", program)
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("the kernel has no TUN devices, which `modprobe tun` may bring; in a container pass --device /dev/net/tun: %w", err)
	}
	return nil
}

// Add makes a host in a namespace of its own.
func (n *Network) Add(ctx context.Context, name string) (*Host, error) {
	namespace := n.prefix + name
	if err := ip(ctx, "netns", "add", namespace); err != nil {
		return nil, err
	}
	return n.attach(ctx, &Host{Name: name, namespace: namespace, Addrs: n.take(1)})
}

// AddSelf makes this program a host, with so many addresses: it may be several, such as
// a client and a balancer.
func (n *Network) AddSelf(ctx context.Context, addrs int) (*Host, error) {
	return n.attach(ctx, &Host{Name: "self", Addrs: n.take(addrs)})
}

func (n *Network) take(count int) (addrs []netip.Addr) {
	for range count {
		addrs = append(addrs, n.next)
		n.next = n.next.Next()
	}
	return addrs
}

// attach gives the host its device and begins to read what it sends.
func (n *Network) attach(ctx context.Context, h *Host) (*Host, error) {
	n.list = append(n.list, h) // also one that is half made is removed
	name := fmt.Sprintf("%s%d", n.prefix, len(n.list))
	device, err := openTUN(name)
	if err != nil {
		return nil, err
	}
	h.device = device
	var in []string
	if h.namespace != "" {
		if err := ip(ctx, "link", "set", name, "netns", h.namespace); err != nil {
			return nil, err
		}
		in = []string{"-netns", h.namespace}
		if err := ip(ctx, append(in, "link", "set", "lo", "up")...); err != nil {
			return nil, err
		}
	}
	for _, addr := range h.Addrs {
		if err := ip(ctx, append(in, "addr", "add", netip.PrefixFrom(addr, Subnet.Bits()).String(), "dev", name)...); err != nil {
			return nil, err
		}
		n.mu.Lock()
		n.hosts[addr] = h
		n.mu.Unlock()
	}
	if err := ip(ctx, append(in, "link", "set", name, "up")...); err != nil {
		return nil, err
	}
	n.run.Go(func() { n.read(h) })
	return h, nil
}

func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// read passes on what a host sends until its device is closed.
func (n *Network) read(h *Host) {
	buffer := make([]byte, 1<<16)
	for {
		size, err := h.device.Read(buffer)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err == nil {
			n.pass(buffer[:size], rand.Float64())
		}
	}
}

// pass looks at the addresses of a packet and at the dice, and hands it on. What is no
// IPv4, or for nobody here, is dropped: hosts also ask for IPv6 routers.
func (n *Network) pass(packet []byte, dice float64) {
	from, to, ok := ends(packet)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock() // writing to a TUN device does not block
	h, l := n.hosts[to], n.links[pair(from, to)]
	switch {
	case h == nil || l != nil && (l.Cut || dice < l.Loss):
	case l != nil && l.late != nil:
		select {
		case l.late <- late{time.Now().Add(l.Delay), append([]byte(nil), packet...), h}:
		default:
		}
	default:
		h.receive(packet)
	}
}

// receive gives the packet to the host's kernel, which may refuse it, as a full queue does.
func (h *Host) receive(packet []byte) { _, _ = h.device.Write(packet) }

// ends returns the addresses of an IPv4 packet (RFC 791, 3.1).
func ends(packet []byte) (from, to netip.Addr, ok bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 || int(binary.BigEndian.Uint16(packet[2:])) != len(packet) {
		return from, to, false
	}
	return netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:])), true
}

// pair names a link, the same in both directions.
func pair(a, b netip.Addr) [2]netip.Addr {
	if b.Less(a) {
		a, b = b, a
	}
	return [2]netip.Addr{a, b}
}

// Set makes every link between the addresses of one list and of the other as told.
func (n *Network) Set(from, to []netip.Addr, as Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range from {
		for _, b := range to {
			n.setLocked(pair(a, b), as)
		}
	}
}

func (n *Network) setLocked(key [2]netip.Addr, as Link) {
	if before := n.links[key]; before != nil && before.late != nil {
		close(before.late) // what is under way arrives
	}
	delete(n.links, key)
	if as == (Link{}) {
		return
	}
	l := &line{Link: as}
	if as.Delay > 0 {
		l.late = make(chan late, lateMax)
		n.run.Go(func() {
			for p := range l.late {
				time.Sleep(time.Until(p.due)) // the way takes so long
				p.to.receive(p.packet)
			}
		})
	}
	n.links[key] = l
}

// Heal makes every link a good one.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key := range n.links {
		n.setLocked(key, Link{})
	}
}

// Close removes all hosts. Whoever started processes on them has ended them before.
func (n *Network) Close() error {
	n.Heal()
	var errs []error
	for _, h := range n.list {
		if h.device != nil {
			errs = append(errs, h.device.Close())
		}
		if h.namespace != "" {
			errs = append(errs, ip(context.Background(), "netns", "del", h.namespace))
		}
	}
	n.run.Wait()
	return errors.Join(errs...)
}
