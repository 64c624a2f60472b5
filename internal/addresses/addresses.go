// Package addresses tells addresses that lead into somebody's own network, or into the
// platform of a cloud, from public ones. Whoever connects on behalf of others asks it about
// the address that is connected to, because a name may lead elsewhere the next time. Any
// package may import it.
package addresses

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// special ranges that netip.Addr has no method for (IANA special-purpose address
// registries).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // shared, carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	// Translation prefixes carry an IPv4 address that would escape the check.
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("::/96"),           // IPv4-compatible
	netip.MustParsePrefix("::ffff:0:0:0/96"), // IPv4-translated, by a SIIT gateway (RFC 2765)
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("3fff::/20"), // documentation
	netip.MustParsePrefix("5f00::/16"), // segments of routing
	netip.MustParsePrefix("fec0::/10"),
}

// Special reports whether addr is in none of the public ranges: private, loopback,
// link-local, unspecified, multicast or reserved.
func Special(addr netip.Addr) bool {
	addr = plain(addr)
	if addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast() {
		return true
	}
	for _, prefix := range special {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// metadata are the addresses outside of the link-local ranges at which clouds tell a
// machine about itself, its credentials in it, as their documentation names them.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon EC2
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure's agent
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud, classic
}

// translated begin IPv6 addresses that a gateway turns into the IPv4 address at their end: the
// well-known prefix of NAT64 (RFC 6052), those for a network's own (RFC 8215, of /96), and that of SIIT.
var translated = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("::ffff:0:0:0/96"),
}

// Translated returns the IPv4 address that a gateway turns addr into, or addr itself.
func Translated(addr netip.Addr) netip.Addr {
	addr = plain(addr)
	if slices.ContainsFunc(translated, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}

// LinkLocal reports whether addr is link-local, as most clouds' metadata services are, or
// that of another one.
func LinkLocal(addr netip.Addr) bool {
	addr = Translated(addr)
	if addr.IsLinkLocalUnicast() {
		return true
	}
	return slices.Contains(metadata, addr)
}

// LoopbackHost reports whether a host, with or without a port, is this machine alone, without
// looking a name up.
func LoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// plain is addr in the one form that can be compared: IPv4 out of IPv6, no zone.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
