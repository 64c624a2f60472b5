package deploy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// BackendState is what a router can say of a version's backend. Origins are always
// ready, whatever their endpoints are: their share of the traffic is theirs.
type BackendState struct {
	Phase BackendPhase `json:"phase"`
	Error string       `json:"error,omitempty"` // why it failed, or which endpoints are out, for a person
}

// BackendPhase is where a backend is between a snapshot and its first request.
type BackendPhase string

const (
	BackendReady    BackendPhase = "ready"
	BackendStarting BackendPhase = "starting" // requests wait for it
	BackendFailed   BackendPhase = "failed"   // requests fail; it may be tried again
	// BackendIdle is a version that no deployment names: its first request starts it.
	BackendIdle BackendPhase = "idle"
)

// Process is one process of a Workers version. Two of a version may be alive at
// once, when one of them still finishes what it has in hand.
type Process struct {
	VersionID string
	Number    int // among all that the router has started
}

// RequestWatcher learns which process a request to a Workers version goes to.
type RequestWatcher interface {
	// SentTo is called before the process gets the request, and again if it turns out
	// to be gone and another one gets it; not after RoundTrip has returned. It must
	// not block.
	SentTo(Process)
}

type watcherKey struct{}

// WatchRequest returns the context of a request that w watches.
func WatchRequest(ctx context.Context, w RequestWatcher) context.Context {
	return context.WithValue(ctx, watcherKey{}, w)
}

// RequestSentTo tells whoever watches the request.
func RequestSentTo(ctx context.Context, p Process) {
	if w, ok := ctx.Value(watcherKey{}).(RequestWatcher); ok {
		w.SentTo(p)
	}
}

const (
	// BindingHeader is on every request that a service binding sends to a gateway. The
	// runtime sets it, and takes away what the Worker may have put there.
	BindingHeader = "Tidegate-Binding"
	// RPCHost is the authority of a CONNECT that opens an RPC session on the socket of
	// an entry point. On a gateway's bindings socket a call is in front of it, because
	// the runtime adds no header to a CONNECT: see ParseRPCHost. No name server knows it.
	RPCHost = "rpc.tidegate.invalid:443"
)

// Caller is the Worker version behind a service binding's nonce.
type Caller struct {
	AccountID string
	Script    string
	VersionID string
}

// ServiceCall is what BindingHeader holds: who calls, proven by a secret of the
// calling process, and what is called.
type ServiceCall struct {
	Nonce      string
	Script     string // of the caller's account
	Entrypoint string // empty for the default one
}

// Header returns the value of BindingHeader, in printable ASCII whatever the names are.
func (c ServiceCall) Header() string {
	return url.Values{"nonce": {c.Nonce}, "script": {c.Script}, "entrypoint": {c.Entrypoint}}.Encode()
}

// RPCHost returns the authority of the CONNECT by which a service binding opens an
// RPC session on a gateway's bindings socket. It is a secret like the nonce.
func (c ServiceCall) RPCHost() string { return hex.EncodeToString([]byte(c.Header())) + "." + RPCHost }

// ParseRPCHost reads the authority of a CONNECT on a gateway's bindings socket.
func ParseRPCHost(host string) (ServiceCall, error) {
	label, ok := strings.CutSuffix(host, "."+RPCHost)
	header, err := hex.DecodeString(label)
	if !ok || err != nil {
		return ServiceCall{}, errors.New("read the host of a CONNECT: it is not one of a service binding")
	}
	return ParseBinding(string(header))
}

// ParseBinding reads the value of BindingHeader. Whether the nonce is one that was
// given out is for the caller to find.
func ParseBinding(header string) (ServiceCall, error) {
	v, err := url.ParseQuery(header)
	if err != nil {
		return ServiceCall{}, errors.New("read " + BindingHeader + ": it is not form-encoded") // err would repeat the secret
	}
	for _, name := range [...]string{"nonce", "script", "entrypoint"} {
		if len(v[name]) != 1 {
			return ServiceCall{}, fmt.Errorf("read %s: it has %d values of %q, not one", BindingHeader, len(v[name]), name)
		}
	}
	c := ServiceCall{Nonce: v.Get("nonce"), Script: v.Get("script"), Entrypoint: v.Get("entrypoint")}
	if c.Nonce == "" || c.Script == "" {
		return ServiceCall{}, fmt.Errorf("read %s: its nonce or its script is empty", BindingHeader)
	}
	return c, nil
}
