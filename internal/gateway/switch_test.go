package gateway_test

import (
	"io"
	"net"
	"net/http"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// switching is a runtime whose one version answers with a WebSocket, or rather with
// one end of a pipe.
type switching struct {
	*workers
	rays  chan string
	pipes chan net.Conn // the version's ends
}

func (s *switching) Update(*deploy.Snapshot) map[string]http.RoundTripper {
	return map[string]http.RoundTripper{v1: s}
}

func (s *switching) RoundTrip(r *http.Request) (*http.Response, error) {
	deploy.RequestSentTo(r.Context(), processOf(v1))
	ours, theirs := net.Pipe()
	s.rays <- r.Header.Get("Cf-Ray")
	s.pipes <- theirs
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Body: ours,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Accept": {"x"}},
	}, nil
}

// A tab that is closed, or a phone that loses its network, ends a WebSocket without
// the closing handshake. The runtime calls that a response that was cut off, which
// counted as the version's failure, so that clients could roll a release back.
func TestClientThatDropsAWebSocketIsNoFailureOfTheVersion(t *testing.T) {
	tests := map[string]struct {
		end  func(client, version net.Conn, e *env)
		told string // by the runtime
		want string
	}{
		"the client drops it":               {func(client, _ net.Conn, _ *env) { _ = client.Close() }, schema.OutcomeResponseStreamDisconnected, schema.OutcomeCanceled},
		"the gateway stops":                 {func(_, _ net.Conn, e *env) { go e.stop() }, schema.OutcomeResponseStreamDisconnected, schema.OutcomeCanceled},
		"the version drops it":              {func(_, version net.Conn, _ *env) { _ = version.Close() }, schema.OutcomeResponseStreamDisconnected, schema.OutcomeResponseStreamDisconnected},
		"the client closes it as it ought":  {func(client, _ net.Conn, _ *env) { _ = client.Close() }, schema.OutcomeOK, schema.OutcomeOK},
		"the client drops it after a throw": {func(client, _ net.Conn, _ *env) { _ = client.Close() }, schema.OutcomeException, schema.OutcomeException},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e, client, version, ray := openSwitched(t)
			test.end(client, version, e)
			_, _ = io.Copy(io.Discard, version) // until the gateway has seen the end
			e.Invocation(v1, schema.Invocation{EventType: "fetch", RayID: ray, TimestampMs: 1, Outcome: test.told})
			wantEvent(t, e.events.nth(1), test.want, "", http.StatusSwitchingProtocols)
		})
	}
}

// The end of a process is the end of its WebSockets, and nothing that the runtime
// lives to tell: their events said "ok".
func TestWebSocketsOfAProcessThatDied(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(client, version net.Conn)
		want string
	}{
		"with an open one":             {func(_, version net.Conn) { _ = version.Close() }, schema.OutcomeInternalError},
		"after its client had left it": {func(client, _ net.Conn) { _ = client.Close() }, schema.OutcomeOK},
	} {
		t.Run(name, func(t *testing.T) {
			e, client, version, _ := openSwitched(t)
			test.end(client, version)
			_, _ = io.Copy(io.Discard, version) // until the gateway has seen the end
			for len(e.events.all()) == 0 {
				e.Ended(processOf(v1), schema.OutcomeInternalError)
			}
			wantEvent(t, e.events.nth(1), test.want, "", http.StatusSwitchingProtocols)
		})
	}
}

// The story: a version said goodbye and closed, as a server does that is stopped, while its
// client was sending. The client's connection was closed over what it had sent, so that the
// kernel reset it: the goodbye was lost where it had not left yet, and the end was an error.
func TestLastWordsOfAVersionReachAClientThatSends(t *testing.T) {
	_, client, version, _ := openSwitched(t)
	const more = 200_000 // than the gateway reads ahead
	if _, err := client.Write(make([]byte, more)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(version, "bye"); err != nil {
		t.Fatal(err)
	}
	_ = version.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "bye" {
		t.Errorf("got %q, %v", got, err)
	}
}

// openSwitched opens a WebSocket, and returns both of its ends and its ray.
func openSwitched(t *testing.T) (e *env, client, version net.Conn, ray string) {
	t.Helper()
	s := &switching{newWorkers(v1), make(chan string, 1), make(chan net.Conn, 1)}
	e = start(t, snapshot(1, workerScript("shop", []string{v1}, 100_000)), func(_ *gateway.Config, deps *gateway.Deps, _ *runtime.Config) {
		deps.Backends, deps.Workers = s, s
	})
	echoed := make(chan net.Conn, 1)
	go func() {
		version := <-s.pipes
		if _, err := io.CopyN(version, version, int64(len("first second"))); err != nil {
			t.Errorf("echo: %v", err)
		}
		echoed <- version
	}()
	client, _ = dialWebSocket(t, e)
	return e, client, <-echoed, <-s.rays
}
