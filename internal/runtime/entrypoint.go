package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Entrypoint returns the way to a named entry point of the version, for service
// bindings; "" is the default one. That there is none shows at the request.
func (v *version) Entrypoint(name string) http.RoundTripper { return entrypoint{v, name} }

type entrypoint struct {
	version *version
	name    string
}

func (e entrypoint) RoundTrip(req *http.Request) (*http.Response, error) {
	return e.version.roundTrip(req, e.name)
}

// DialRPC opens an RPC session with an entry point: the answer to a CONNECT for
// deploy.RPCHost has been read, and Cap'n Proto follows. The process counts as busy
// until the connection is closed.
func (v *version) DialRPC(ctx context.Context, name string) (net.Conn, error) {
	in, err := v.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer in.busy.Add(-1)
	t := in.entrypoints[name]
	if t == nil {
		return nil, v.noEntrypoint(name)
	}
	// A session's calls are told of when they have ended, which may be after the session.
	in.untold.mix()
	return in.dialRPC(ctx, t)
}

// scheduled triggers the scheduled handler and returns its outcome.
func (v *version) scheduled(ctx context.Context, cron string, at time.Time) (string, error) {
	in, err := v.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer in.busy.Add(-1)
	target := "/scheduled?" + url.Values{"cron": {cron}, "time": {strconv.FormatInt(at.UnixMilli(), 10)}}.Encode()
	in.meter.begin(scheduledKey)
	resp, err := in.router.RoundTrip(internalRequest(ctx, target))
	in.meter.failed(ctx, scheduledKey, err)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	var result struct{ Outcome string }
	if resp.StatusCode != http.StatusOK || json.Unmarshal(body, &result) != nil || result.Outcome == "" {
		return "", &Error{schema.ErrorKindProtocol, "trigger the scheduled handler of version " + v.VersionID,
			fmt.Errorf("the runtime answered %s", resp.Status)}
	}
	return result.Outcome, nil
}

// dialRPC opens an RPC session with an entry point, by a CONNECT.
func (in *instance) dialRPC(ctx context.Context, t *http1) (net.Conn, error) {
	nc, err := t.dialer.DialContext(ctx, t.network, t.addr)
	if err != nil {
		return nil, dialFault(ctx, t.addr, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // whoever uses it sees the end
	br := bufio.NewReader(nc)
	err = connectRPC(nc, br)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close() // the error of the exchange is the one that matters
		return nil, t.fault(ctx, "open an RPC session at "+t.addr, err)
	}
	in.busy.Add(1)
	return &rpcConn{Conn: nc, br: br, in: in}, nil
}

func connectRPC(nc net.Conn, br *bufio.Reader) error {
	if err := nc.SetDeadline(time.Now().Add(rpcConnectTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(nc, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", deploy.RPCHost); err != nil {
		return err
	}
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the runtime answered %s", resp.Status)
	}
	return nc.SetDeadline(time.Time{})
}

// rpcConnectTimeout bounds the answer to a CONNECT, which runs no user code.
const rpcConnectTimeout = 10 * time.Second

// rpcConn is an RPC session; its process is busy until it is closed.
type rpcConn struct {
	net.Conn
	br     *bufio.Reader // what came after the answer to CONNECT, then Conn
	in     *instance
	closed atomic.Bool
}

func (c *rpcConn) Read(p []byte) (int, error) { return c.br.Read(p) }

func (c *rpcConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.in.busy.Add(-1)
	}
	return c.Conn.Close()
}

// CloseWrite ends our half, as a TCP connection's.
func (c *rpcConn) CloseWrite() error {
	if u, ok := c.Conn.(*net.UnixConn); ok {
		return u.CloseWrite()
	}
	return errors.ErrUnsupported
}
