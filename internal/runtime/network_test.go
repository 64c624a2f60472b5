package runtime

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tidegate/internal/addresses"
)

// reach tries an address by fetch and by a socket, and tells which got through.
const reach = `import { connect } from "cloudflare:sockets";
export default { async fetch(request) {
	const to = request.headers.get("X-To"), through = [];
	try { await fetch(to.startsWith("/") ? "unix:" + to : "http://" + to + "/"); through.push("fetch"); } catch {}
	try { const s = connect(to); await s.opened; through.push("connect"); s.close(); } catch {}
	return new Response(through.join());
} }`

// The API, Kafka and ClickHouse trust who reaches them, and so does what else listens
// on this machine. One version may reach private addresses, which shows that the
// others fail for their addresses.
func TestWorkersReachPublicAddressesOnly(t *testing.T) {
	listener, err := net.Listen("tcp", ":0") // on every address, that is the point
	if err != nil {
		t.Fatal(err)
	}
	var reached atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			reached.Add(1)
		}
	}
	go func() { _ = server.Serve(listener) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(w http.RoundTripper, to string) string {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		req.Header.Set("X-To", to)
		resp, err := w.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("ask for %s: %d %q, %v", to, resp.StatusCode, body, err)
		}
		return string(body)
	}

	r := newRig(t, nil)
	r.add(v1, reach, nil)
	w := r.deploy(v1)[v1]
	for _, host := range []string{
		"127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "localhost.", "0.0.0.0", "0.1.2.3",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "[::127.0.0.1]", "[2002:7f00:1::]",
		"10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "[fe80::1]", "[fd00::1]",
	} {
		if got := ask(w, host+":"+port); got != "" {
			t.Errorf("%s is reached by %s", host, got)
		}
	}
	for _, path := range []string{r.dir + "/run/1/sink", r.dir + "/run/1/sink:80"} {
		if got := ask(w, path); got != "" {
			t.Errorf("the socket %s is reached by %s", path, got)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections came to this machine", n)
	}

	open := newRig(t, func(c *Config) { c.Workers.AllowPrivateNetwork = true })
	open.add(v1, reach, nil)
	if got := ask(open.deploy(v1)[v1], "127.0.0.1:"+port); !strings.HasPrefix(got, "fetch") || reached.Load() == 0 {
		t.Errorf("where private addresses are allowed, one is reached by %q", got)
	}
}

// What clouds keep a machine's credentials at is no Worker's, also where it may reach private
// networks: 168.63.129.16 is public to the runtime, and link-local addresses are private.
func TestNoWorkerReachesCredentials(t *testing.T) {
	for _, c := range []processConfig{{}, {privateNetwork: true}} {
		_, denied, found := strings.Cut(c.networks(), "deny = ")
		var list []string
		if err := json.Unmarshal([]byte(denied), &list); err != nil || !found {
			t.Fatalf("%s: %v", c.networks(), err)
		}
		denies := func(addr netip.Addr) bool {
			return slices.ContainsFunc(list, func(p string) bool { return netip.MustParsePrefix(p).Contains(addr) })
		}
		for _, text := range []string{"169.254.169.254", "169.254.0.1", "fe80::a", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "64:ff9b::a9fe:a9fe", "64:ff9b::a83f:8110",
			"64:ff9b::100.100.100.200", "64:ff9b::192.0.0.192", "64:ff9b:1::a9fe:a9fe", "64:ff9b:1::168.63.129.16", "::ffff:0:169.254.169.254", "::ffff:0:192.0.0.192"} {
			addr := netip.MustParseAddr(text)
			if !addresses.LinkLocal(addr) || !denies(addr) {
				t.Errorf("private network %v: %s is open", c.privateNetwork, text)
			}
		}
		for text, want := range map[string]bool{"64:ff9b::10.1.2.3": true, "64:ff9b::100.64.0.1": true, "64:ff9b::127.0.0.1": true, "64:ff9b::172.31.0.1": true, "64:ff9b::192.168.0.1": true,
			"0.1.2.3": true, "::10.0.0.1": true, "2002:a00:1::": true, "64:ff9b:1:abc::a9fe:a9fe": true, "::ffff:0:10.0.0.1": true, "64:ff9b::8.8.8.8": false, "64:ff9b::172.32.0.1": false, "8.8.8.8": false, "2606:4700::1111": false} {
			if got := denies(netip.MustParseAddr(text)); got != (want && !c.privateNetwork) {
				t.Errorf("private network %v: %s is denied: %v", c.privateNetwork, text, got)
			}
		}
	}
}
