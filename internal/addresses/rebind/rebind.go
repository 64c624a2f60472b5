// Package rebind gives tests a name that leads elsewhere at each look-up, as the names of
// those do who want to get behind a check of addresses.
package rebind

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Name is resolved, and nothing else.
const Name = "origin.rebind.test"

// Resolve has this process look names up at a server that answers the first question for
// Name with the first addresses, the second one with the second, and so on; the last ones
// stay. It is for the time of the test, which must not be parallel to others.
func Resolve(t testing.TB, answers ...[]netip.Addr) {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	var served sync.WaitGroup
	t.Cleanup(func() {
		net.DefaultResolver = before
		_ = conn.Close()
		served.Wait()
	})
	served.Go(func() { serve(conn, answers) })
}

func serve(conn net.PacketConn, answers [][]netip.Addr) {
	asked := 0
	for buf := make([]byte, 1500); ; {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		switch {
		case !strings.EqualFold(q.Name.String(), Name+"."):
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA: // the question of the same look-up for IPv6 has no answers
			for _, addr := range answers[min(asked, len(answers)-1)] {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: addr.As4()},
				})
			}
			asked++
		}
		if text, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(text, from) // whoever asked asks again
		}
	}
}
