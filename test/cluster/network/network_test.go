package network

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"
)

// wire is a network whose devices are pipes, so that it needs no rights: what a host would
// receive can be read from its end.
func wire(t *testing.T, hosts int) (n *Network, addrs []netip.Addr, ends []*os.File) {
	t.Helper()
	n = &Network{hosts: map[netip.Addr]*Host{}, links: map[[2]netip.Addr]*line{}, next: Subnet.Addr().Next()}
	for range hosts {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		h := &Host{Addrs: n.take(1), device: w}
		n.hosts[h.Addr()] = h
		addrs, ends = append(addrs, h.Addr()), append(ends, r)
		t.Cleanup(func() {
			n.Heal()
			n.run.Wait()
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return n, addrs, ends
}

// packet is an IPv4 header with one byte behind it.
func packet(from, to netip.Addr, content byte) []byte {
	p := make([]byte, 21)
	p[0], p[20] = 0x45, content
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], from.AsSlice())
	copy(p[16:], to.AsSlice())
	return p
}

// received reads the contents of so many packets, which must be there in good time.
func received(t *testing.T, end *os.File, count int) string {
	t.Helper()
	if err := end.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var contents []byte
	for range count {
		p := make([]byte, 21)
		if _, err := end.Read(p); err != nil {
			t.Fatalf("after %q: %v", contents, err)
		}
		contents = append(contents, p[20])
	}
	return string(contents)
}

// A link that is cut or lossy takes packets of both directions, and of no other link.
func TestLinksLosePackets(t *testing.T) {
	n, addr, end := wire(t, 3)
	a, b, c := addr[0], addr[1], addr[2]
	n.pass(packet(a, b, '1'), 0)
	n.Set([]netip.Addr{a}, []netip.Addr{b}, Link{Cut: true})
	n.pass(packet(a, b, '2'), 0.99)
	n.pass(packet(b, a, '2'), 0.99)
	n.pass(packet(c, b, '3'), 0)
	n.Set([]netip.Addr{b}, []netip.Addr{a}, Link{Loss: 0.5})
	n.pass(packet(a, b, '4'), 0.49)
	n.pass(packet(a, b, '5'), 0.5)
	n.pass(packet(b, a, '5'), 0.5)
	n.Heal()
	n.pass(packet(a, b, '6'), 0)
	if got := received(t, end[1], 4); got != "1356" {
		t.Errorf("the second host received %s", got)
	}
	if got := received(t, end[0], 1); got != "5" {
		t.Errorf("the first host received %s", got)
	}
}

// What is late comes in its order, and what is under way arrives when the link is healed.
func TestLinksDelayPackets(t *testing.T) {
	n, addr, end := wire(t, 2)
	const delay = 30 * time.Millisecond
	n.Set(addr[:1], addr[1:], Link{Delay: delay})
	began := time.Now()
	for i := range byte(3) {
		n.pass(packet(addr[0], addr[1], 'a'+i), 0)
	}
	n.Heal()
	if got := received(t, end[1], 3); got != "abc" {
		t.Errorf("received %s", got)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("a delay of %s took %s", delay, took)
	}
}

// Nothing that is no whole IPv4 packet, or for nobody, goes anywhere.
func TestOtherPacketsAreDropped(t *testing.T) {
	n, addr, end := wire(t, 2)
	whole := packet(addr[0], addr[1], 'x')
	six := packet(addr[0], addr[1], 'x')
	six[0] = 0x65
	for _, p := range [][]byte{nil, whole[:19], whole[:20], six, packet(addr[0], netip.MustParseAddr("10.211.77.99"), 'x')} {
		n.pass(p, 0)
	}
	n.pass(packet(addr[0], addr[1], 'y'), 0)
	if got := received(t, end[1], 1); got != "y" {
		t.Errorf("received %s", got)
	}
}
