package addresses

import (
	"net/netip"
	"testing"
)

func TestKindsOfAddresses(t *testing.T) {
	f := func(special, linkLocal bool, list ...string) {
		t.Helper()
		for _, text := range list {
			addr := netip.MustParseAddr(text)
			if got := Special(addr); got != special {
				t.Errorf("%s: special is %t", text, got)
			}
			if got := LinkLocal(addr); got != linkLocal {
				t.Errorf("%s: link-local is %t", text, got)
			}
		}
	}
	f(false, false, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "172.32.0.1", "100.128.0.1")
	f(true, false, "10.0.0.1", "::ffff:10.0.0.1", "172.31.255.255", "192.168.0.1", "fd12::1", "100.64.0.1", // private
		"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "240.0.0.1",
		"64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1", "::10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b:1::a00:1", "3fff::1")
	f(true, true, "169.254.169.254", "169.254.1.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1:abc::a9fe:a9fe", "::ffff:0:169.254.169.254",
		"fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
	f(false, true, "168.63.129.16")
}

func TestLoopbackHosts(t *testing.T) {
	f := func(want bool, hosts ...string) {
		t.Helper()
		for _, host := range hosts {
			if got := LoopbackHost(host); got != want {
				t.Errorf("%q: %t", host, got)
			}
		}
	}
	f(true, "localhost", "Localhost:8787", "127.0.0.1", "127.1.2.3:80", "::1", "[::1]", "[::1]:8787")
	f(false, "", ":8787", "example.com", "localhost.example.com:80", "127.0.0.1.example.com", "0.0.0.0:80", "10.0.0.1", "[fe80::1]:80")
}

// However an IPv4 address is written as an IPv6 one, a connection to it is refused if one to
// itself is: by its own notation judged alike, by what translates it special, and of the
// machine's own link where it is.
func FuzzSpellings(f *testing.F) {
	for _, text := range []string{"169.254.169.254", "10.0.0.1", "127.0.0.1", "8.8.8.8", "168.63.129.16", "0.0.0.0", "255.255.255.255"} {
		a := netip.MustParseAddr(text).As4()
		f.Add(a[0], a[1], a[2], a[3], uint16(0), "eth0")
	}
	f.Fuzz(func(t *testing.T, a, b, c, d byte, middle uint16, zone string) {
		four := netip.AddrFrom4([4]byte{a, b, c, d})
		with := func(prefix string) netip.Addr {
			text := netip.MustParseAddr(prefix).As16()
			copy(text[12:], four.AsSlice())
			return netip.AddrFrom16(text)
		}
		mapped := with("::ffff:0:0")
		if Special(mapped) != Special(four) || LinkLocal(mapped) != LinkLocal(four) {
			t.Errorf("%s is judged otherwise than %s", mapped, four)
		}
		own := netip.MustParseAddr("64:ff9b:1::").As16()
		own[6], own[7] = byte(middle>>8), byte(middle)
		copy(own[12:], four.AsSlice())
		for _, addr := range []netip.Addr{with("64:ff9b::"), netip.AddrFrom16(own), with("::ffff:0:0:0")} {
			if !Special(addr) || LinkLocal(addr) != LinkLocal(four) {
				t.Errorf("%s is not judged as %s", addr, four)
			}
			if got := Translated(addr.WithZone(zone)); got != four {
				t.Errorf("%s leads to %s and not to %s", addr, got, four)
			}
		}
		for _, addr := range []netip.Addr{four, with("fe80::"), with("2002::"), with("64:ff9b:2::")} {
			if got := Translated(addr.WithZone(zone)); got != addr {
				t.Errorf("no gateway turns %s into %s", addr, got)
			}
		}
		for _, addr := range []netip.Addr{mapped, with("64:ff9b::"), with("fe80::"), with("2002::")} {
			if zoned := addr.WithZone(zone); Special(zoned) != Special(addr) || LinkLocal(zoned) != LinkLocal(addr) {
				t.Errorf("%s is judged otherwise than %s", zoned, addr)
			}
		}
	})
}
