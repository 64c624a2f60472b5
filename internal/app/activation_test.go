package app

import (
	"slices"
	"strings"
	"testing"
)

func variables(pid, n, names string) func(string) string {
	return func(name string) string {
		return map[string]string{"LISTEN_PID": pid, "LISTEN_FDS": n, "LISTEN_FDNAMES": names}[name]
	}
}

func TestSocketsThatSystemdPasses(t *testing.T) {
	f := func(env func(string) string, want ...string) {
		t.Helper()
		if got, err := passedNames(env, 42); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	f(variables("42", "1", "gateway"), "gateway")
	f(variables("42", "4", "ops:gateway-tls:api:gateway"), "ops", "gateway-tls", "api", "gateway")
	f(variables("42", "0", ""))
	f(variables("41", "1", "gateway")) // of our parent
	f(variables("", "", ""))
}

func TestSocketsThatCannotBeUsed(t *testing.T) {
	f := func(env func(string) string, want string) {
		t.Helper()
		if _, err := passedNames(env, 42); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	f(variables("42", "many", ""), "must be a number")
	f(variables("42", "-1", ""), "must be a number")
	f(variables("42", "1", ""), "FileDescriptorName=")
	f(variables("42", "2", "gateway"), "2 sockets")
	f(variables("42", "1", "router.socket"), "one of api, gateway, gateway-tls, ops")
	f(variables("42", "2", "gateway:gateway"), "two are named")
}

func TestASocketThatNobodyWantsIsRefused(t *testing.T) {
	p := &process{config: DefaultConfig(RoleGateway)}
	p.config.Gateway.Addr = "127.0.0.1:0"
	if err := p.listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	passed := p.listeners
	passed[listenTLS] = passed[listenGateway]
	t.Cleanup(func() { _ = p.listeners[listenGateway].Close() })
	err := p.listen(t.Context(), passed)
	if err == nil || !strings.Contains(err.Error(), "gateway over TLS") {
		t.Errorf("a socket for TLS without certificates: %v", err)
	}
}
