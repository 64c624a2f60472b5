package egress

import (
	"net/netip"
	"testing"
)

func TestAllows(t *testing.T) {
	f := func(addr string, zero, private, loopback bool) {
		t.Helper()
		a := netip.MustParseAddr(addr)
		for _, c := range []struct {
			policy Policy
			want   bool
		}{{Policy{}, zero}, {Policy{AllowPrivate: true}, private}, {Policy{AllowLoopback: true}, loopback}} {
			if got := c.policy.Allows(a); got != c.want {
				t.Errorf("%+v allows %s: %v, want %v", c.policy, addr, got, c.want)
			}
		}
	}
	for _, public := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700:4700::1111"} {
		f(public, true, true, true)
	}
	for _, local := range []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"} {
		f(local, false, false, true)
	}
	for _, private := range []string{
		"10.0.0.1", "172.16.0.1", "192.168.1.1", "::ffff:10.0.0.1", "fd00::1", // private
		"169.254.169.254", "fe80::1", // link-local, cloud metadata
		"100.64.0.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "0.1.2.3",
		"64:ff9b::a00:1", "2002:a00:1::1", "2001::1", // IPv4 inside IPv6
	} {
		f(private, false, true, false)
	}
	for _, never := range []string{"0.0.0.0", "::", "224.0.0.1", "ff02::1"} {
		f(never, false, false, false)
	}
}
