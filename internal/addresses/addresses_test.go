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
