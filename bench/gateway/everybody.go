package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// manyScripts are in the snapshot of a gateway of its own.
const manyScripts = 1000

// everybody is all that is measured. A peer whose program is not there is nil.
type everybody struct {
	traced, plain, many, nginx, haproxy, caddy, upstream *peer
	nginxHTTP2                                           string // where it speaks HTTP/2
	children                                             []*child
	neighbours                                           []*child // of children: the upstreams and the broker
}

func (e *everybody) peers() []*peer {
	list := []*peer{e.traced, e.plain, e.many, e.nginx, e.haproxy, e.caddy, e.upstream}
	return slices.DeleteFunc(list, func(p *peer) bool { return p == nil })
}

func (e *everybody) stop() {
	for _, c := range slices.Backward(e.children) {
		c.stop()
	}
}

// startAll starts the upstreams and the proxies. What it returns must be stopped, also after an error.
func startAll(ctx context.Context, o options, dir string) (*everybody, error) {
	e := &everybody{}
	add := func(name string, c *child, err error) (*peer, error) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		e.children = append(e.children, c)
		return &peer{name: name, process: c}, nil
	}
	self := func(name, role string, args ...string) (*peer, error) {
		c, err := startSelf(ctx, role, args...)
		return add(name, c, err)
	}
	var err error
	if e.upstream, err = self("upstream alone", "upstream"); err != nil {
		return e, err
	}
	other, err := self("second upstream", "upstream")
	if err != nil {
		return e, err
	}
	first, second := e.upstream.process.addr, other.process.addr
	gateway := func(name, folder string, args ...string) (*peer, error) {
		folder = filepath.Join(dir, folder)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
		return self(name, "gateway", append(args, folder, first, second)...)
	}
	broker, err := self("broker", "broker", dir)
	if err != nil {
		return e, err
	}
	e.neighbours = []*child{e.upstream.process, other.process, broker.process}
	kafka := "-kafka=" + broker.process.addr
	if e.traced, err = gateway("gateway, trace events to Kafka", "traced", kafka, "-cpuprofile="+o.profile); err != nil {
		return e, err
	}
	if e.plain, err = gateway("gateway, no trace events", "plain"); err != nil {
		return e, err
	}
	if e.many, err = gateway("gateway, traced, 1,000 scripts", "many", kafka, fmt.Sprintf("-scripts=%d", manyScripts)); err != nil {
		return e, err
	}
	if program, lookErr := exec.LookPath("nginx"); lookErr != nil {
		fmt.Println("left out: nginx: it is not in PATH")
	} else {
		c, h2, err := startNginx(ctx, program, dir, first, second)
		if e.nginx, err = add("nginx, JSON access log", c, err); err != nil {
			return e, err
		}
		e.nginxHTTP2 = h2
	}
	if program, lookErr := exec.LookPath("haproxy"); lookErr != nil {
		fmt.Println("left out: HAProxy: it is not in PATH")
	} else {
		c, err := startHAProxy(ctx, program, dir, first, second)
		if e.haproxy, err = add("HAProxy, no log", c, err); err != nil {
			return e, err
		}
	}
	c, err := startCaddy(ctx, o.caddy, dir, first, second)
	e.caddy, err = add("Caddy, weighted reverse proxy", c, err)
	return e, err
}
