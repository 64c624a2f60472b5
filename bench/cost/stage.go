package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/load"
	"tidegate/test/platform"
	"tidegate/test/topic"
)

const (
	body  = "ok"
	conns = 32
)

// stage is a platform of one setting.
type stage struct {
	dir       string
	log       *os.File
	broker    *topic.Broker
	platform  *platform.Platform // control plane and engine
	ingest    *platform.Process
	logpush   *platform.Process
	router    *platform.Process
	gateway   string // address
	ops       string // of the router's metrics
	origin    *httptest.Server
	receiver  *httptest.Server
	delivered atomic.Int64 // bytes that the receiver took
	requests  []string
}

func startStage(ctx context.Context, s setting) (_ *stage, err error) {
	st := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.close())
		}
	}()
	if st.dir, err = os.MkdirTemp("", "tidegate-cost-"); err != nil {
		return nil, err
	}
	if st.log, err = os.Create(filepath.Join(st.dir, "log")); err != nil {
		return nil, err
	}
	st.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	st.receiver = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body) // a batch that is cut off comes again
		st.delivered.Add(n)
	}))
	if st.broker, err = topic.StartBroker(ctx, filepath.Join(st.dir, "kafka")); err != nil {
		return nil, err
	}
	data := filepath.Join(st.dir, "data")
	st.platform, err = platform.Start(ctx, platform.Options{
		Binary: filepath.Join("bin", "tidegate"), DataDir: data, Output: st.log,
		Args: []string{"--kafka", st.broker.Addr, "--roles", "api,rollback", "--logpush-allow-loopback", "--logpush-allow-http"},
	})
	if err != nil {
		return nil, err
	}
	if err := st.startRoles(data); err != nil {
		return nil, err
	}
	return st, st.fill(ctx, s)
}

func (st *stage) startRoles(data string) (err error) {
	p := st.platform
	if st.gateway, err = freeAddr(); err != nil {
		return err
	}
	if st.ops, err = freeAddr(); err != nil {
		return err
	}
	kafka := []string{"--kafka", st.broker.Addr}
	start := func(binary string, args ...string) *platform.Process {
		var process *platform.Process
		if err == nil {
			process, err = platform.StartProcess(st.log, nil, filepath.Join("bin", binary), append(args, kafka...)...)
		}
		return process
	}
	st.ingest = start("ingest", "--roles", "ingest", "--clickhouse", p.ClickHouse)
	st.logpush = start("ingest", "--roles", "logpush", "--database", filepath.Join(data, "control.db"), "--secrets-key-file", filepath.Join(data, "secrets-key"), "--logpush-allow-loopback", "--logpush-allow-http", "--logpush-interval", "5s")
	st.router = start("router", "--api-url", p.Ready.API, "--api-token-file", p.TokenFile, "--gateway-addr", st.gateway, "--ops-addr", st.ops, "--data-dir", filepath.Join(st.dir, "router"))
	return err
}

// fill makes the setting's scripts, versions and jobs, and waits until the last script serves.
func (st *stage) fill(ctx context.Context, s setting) error {
	p := st.platform
	limits := map[string]any{"settings": map[string]int{"max_versions": 100, "max_jobs": 100}}
	if err := p.API(ctx, http.MethodPatch, "/accounts/{account}", limits, nil); err != nil {
		return err
	}
	for i := range s.jobs {
		job := map[string]any{"name": fmt.Sprintf("job-%d", i), "dataset": "workers_trace_events", "enabled": true, "destination_conf": st.receiver.URL + fmt.Sprintf("/%d", i)}
		if err := p.API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", job, nil); err != nil {
			return err
		}
	}
	for i := range s.scripts {
		script := fmt.Sprintf("script-%d", i)
		splits := make([]deploy.Split, s.versions)
		for v := range splits {
			id, err := p.UploadOrigin(ctx, script, st.origin.URL, fmt.Sprintf("v%d", v), "")
			if err != nil {
				return err
			}
			splits[v] = deploy.Split{VersionID: id, Percentage: deploy.Full / deploy.Percentage(s.versions)}
		}
		if _, err := p.Deploy(ctx, script, splits...); err != nil {
			return err
		}
		st.requests = append(st.requests, "GET / HTTP/1.1\r\nHost: "+p.Host(script)+"\r\n\r\n")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	last := p.Host(fmt.Sprintf("script-%d", s.scripts-1))
	return platform.Poll(ctx, func() (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+st.gateway+"/", nil)
		if err != nil {
			return false, err
		}
		req.Host = last
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil // it does not listen yet
		}
		return res.StatusCode == http.StatusOK, res.Body.Close()
	})
}

func (st *stage) target() load.Target {
	return load.Target{Network: "tcp", Addr: st.gateway, Request: st.requests[0], InTurn: st.requests[1:], BodyBytes: len(body)}
}

func (st *stage) close() error {
	var err error
	for _, process := range []*platform.Process{st.router, st.logpush, st.ingest} {
		if process != nil {
			err = errors.Join(err, process.Terminate(platform.StopContract))
		}
	}
	if st.platform != nil {
		err = errors.Join(err, st.platform.Stop())
	}
	if st.broker != nil {
		st.broker.Stop()
	}
	for _, server := range []*httptest.Server{st.origin, st.receiver} {
		if server != nil {
			server.Close()
		}
	}
	if err != nil && st.log != nil {
		text, errRead := os.ReadFile(st.log.Name())
		lines := strings.Split(string(text), "\n")
		err = errors.Join(err, errRead, errors.New("the last that the platform logged:\n"+strings.Join(lines[max(0, len(lines)-10):], "\n")))
	}
	if st.log != nil {
		err = errors.Join(err, st.log.Close())
	}
	if st.dir != "" {
		err = errors.Join(err, os.RemoveAll(st.dir))
	}
	return err
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
