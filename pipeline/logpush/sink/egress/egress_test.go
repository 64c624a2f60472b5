package egress

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"tidegate/internal/addresses/rebind"
	"tidegate/pipeline/logpush"
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
		"100.64.0.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "0.1.2.3",
		"64:ff9b::a00:1", "2002:a00:1::1", "2001::1", // IPv4 inside IPv6
	} {
		f(private, false, true, false)
	}
	for _, never := range []string{"0.0.0.0", "::", "224.0.0.1", "ff02::1", "169.254.169.254", "fe80::1", "fd00:ec2::254"} {
		f(never, false, false, false)
	}
}

// The story: a stack that allows loopback destinations (a collector beside it)
// also let a job deliver to the platform's own API, log store and brokers on
// the same machine, none of which ask a caller on loopback who it is.
func TestThePlatformsOwnAddressesAreNeverReached(t *testing.T) {
	reached := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	t.Cleanup(server.Close)
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	port := at.Port()
	other := netip.AddrPortFrom(at.Addr(), port-1).String()

	dial := func(own []string, host netip.Addr) error {
		t.Helper()
		client := Policy{AllowHTTP: true, AllowPrivate: true, AllowLoopback: true, Own: platform(t, nil, own...)}.Client()
		defer client.CloseIdleConnections()
		url := "http://" + netip.AddrPortFrom(host, port).String()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return Classify(err)
		}
		return resp.Body.Close()
	}
	refused := func(refuse, host string) {
		t.Helper()
		err := dial([]string{other, netip.AddrPortFrom(netip.MustParseAddr(refuse), port).String()}, netip.MustParseAddr(host))
		if err == nil || !strings.Contains(err.Error(), "destinations must not be the platform's own addresses") {
			t.Errorf("%s refused, dialled %s: %v", refuse, host, err)
		}
	}
	if err := dial([]string{other}, at.Addr()); err != nil || reached != 1 {
		t.Fatalf("another port is refused: %v, %d requests arrived; want 1", err, reached)
	}
	for _, spelling := range []string{"127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"} {
		for _, listener := range []string{"127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::"} {
			refused(listener, spelling)
		}
	}
	refused("::", "127.9.9.9")
	refused("0.0.0.0", "::")
	refused("0.0.0.0", "::1")
	refused("::1", "::")
	if reached != 1 {
		t.Errorf("%d requests arrived, want the 1 that was allowed", reached)
	}
}

func TestUnspecifiedMeansThisMachineAlone(t *testing.T) {
	everywhere := Policy{Own: platform(t, nil, "[::]:8123")}
	refuses := func(to netip.AddrPort) bool {
		return errors.Is(everywhere.control(t.Context(), "tcp", to.String(), nil), errOwn)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		ip := netip.MustParsePrefix(a.String()).Addr()
		if !refuses(netip.AddrPortFrom(ip, 8123)) {
			t.Errorf("%s is this machine's, and is let through", ip)
		}
		if refuses(netip.AddrPortFrom(ip, 8124)) {
			t.Errorf("%s is refused on a port nothing of ours listens on", ip)
		}
	}
	if err := everywhere.control(context.Background(), "tcp", "1.1.1.1:8123", nil); err != nil {
		t.Errorf("an address of another machine: %v", err)
	}
	if err := everywhere.control(context.Background(), "tcp6", "[fe80::1%lo]:8123", nil); err == nil {
		t.Error("a link-local address is let through")
	}
}

func TestCheckURL(t *testing.T) {
	f := func(p Policy, raw string, want bool) {
		t.Helper()
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.CheckURL(u); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", raw, err, want)
		}
	}
	for _, raw := range []string{"https://example.com/x", "https://93.184.216.34", "https://[2606:2800:220:1::1]:8443/"} {
		f(Policy{}, raw, true)
	}
	for _, raw := range []string{"http://example.com", "ftp://example.com", "https://10.0.0.1/", "https://169.254.169.254/latest", "https://127.0.0.1:8787",
		"https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/", "https://localhost/", "https://a.LocalHost./", "https://0.0.0.0/"} {
		f(Policy{}, raw, false)
	}
	f(Policy{AllowHTTP: true}, "http://example.com", true)
	f(Policy{AllowLoopback: true}, "https://localhost:9000", true)
	f(Policy{AllowLoopback: true}, "https://127.0.0.1:9000", true)
	f(Policy{AllowLoopback: true}, "https://10.0.0.1", false)
	f(Policy{AllowPrivate: true}, "https://10.0.0.1", true)
}

// The address that is connected to counts, not the one that a name had when it was looked
// at: the second look-up may lead into our own network.
func TestDestinationThatIsReboundIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	t.Cleanup(server.Close)
	here := netip.MustParseAddr("127.0.0.1")
	for _, there := range []string{"10.0.0.1", "169.254.169.254", "100.100.100.200"} {
		rebind.Resolve(t, []netip.Addr{here}, []netip.Addr{netip.MustParseAddr(there)})
		policy := Policy{AllowHTTP: true, AllowLoopback: true, AllowPrivate: there != "10.0.0.1"}
		client := policy.Client()
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = net.JoinHostPort(rebind.Name, u.Port())
		if err := policy.CheckURL(u); err != nil {
			t.Fatal(err)
		}
		res, err := client.Get(u.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if _, err := client.Get(u.String()); !errors.Is(err, errBlocked) { //nolint:bodyclose // there is none
			t.Errorf("rebound to %s: %v, want %v", there, err, errBlocked)
		}
	}
}

// A connection that did not come in time is told as that, also through net/http, whose own error
// asks what is right below it and no more.
func TestAConnectionThatIsLateIsATimeout(t *testing.T) {
	late := func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithDeadline(ctx, time.Unix(0, 0))
		defer cancel()
		return Policy{AllowLoopback: true}.Dial(ctx, network, address)
	}
	_, bare := late(t.Context(), "tcp", "127.0.0.1:1")
	_, posted := (&http.Client{Transport: &http.Transport{DialContext: late}}).Get("http://127.0.0.1:1") //nolint:bodyclose // there is none
	for _, err := range []error{bare, posted} {
		if e := Classify(err); e.Status != logpush.StatusConnectTimeout {
			t.Errorf("%T %v: told as %+v", err, err, e)
		}
	}
}
