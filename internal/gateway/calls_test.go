package gateway_test

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"tidegate/internal/deploy"
)

// dialCall sends a call and leaves its answer unread.
func dialCall(t *testing.T, socket, request string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "%s\r\n\r\n", request); err != nil {
		t.Fatal(err)
	}
	return c
}

// One Worker that called itself for ever took the calls of all, and so did sessions
// of RPC that were only kept: a thousand processes with a binding each were enough.
func TestCallsOfOneAccountLeaveTheOthersAlone(t *testing.T) {
	const most = 1000
	e, w, socket := bindings(t)
	other := deploy.ServiceCall{Nonce: "of another account", Script: "blog"}
	w.callers[other.Nonce] = deploy.Caller{AccountID: "00000000000000000000000000000002", Script: "theirs"}
	own := deploy.ServiceCall{Nonce: nonce, Script: "blog"}

	sessions := make([]net.Conn, 0, most)
	w.versions[v3].dial = func(string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		return ours, nil
	}
	for range most {
		sessions = append(sessions, dialCall(t, socket, "CONNECT "+own.RPCHost()+" HTTP/1.1\r\nHost: "+own.RPCHost()))
	}
	for _, c := range sessions {
		if _, err := c.Read(make([]byte, 1)); err != nil { // the answer: it is open
			t.Fatal(err)
		}
	}
	if a := call(t, socket, own.Header()); a.StatusCode != http.StatusOK {
		t.Errorf("beside %d sessions a call got %d %q", most, a.StatusCode, a.body)
	}

	var under atomic.Int64
	release := make(chan struct{})
	defer close(release)
	w.versions[v3].serve = func(http.ResponseWriter, *http.Request) {
		under.Add(1)
		<-release
	}
	for range most {
		dialCall(t, socket, "GET / HTTP/1.1\r\nHost: x\r\n"+deploy.BindingHeader+": "+own.Header())
	}
	waitFor(t, "the calls to be under way", func() bool { return under.Load() == most })
	if a := call(t, socket, own.Header()); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("the account's call %d got %d %q", most+1, a.StatusCode, a.body)
	}
	// That account has no such script; that it is told so shows that it was let in.
	if a := call(t, socket, other.Header()); a.StatusCode != http.StatusNotFound {
		t.Errorf("another account's call got %d %q", a.StatusCode, a.body)
	}
	e.wantBody(t, shop, "a", "Cloudflare-Workers-Version-Overrides", `shop="`+v1+`"`)
}
