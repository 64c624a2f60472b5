package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidegate/internal/embedded"
)

// engineCommand makes this program the process of ClickHouse.
const engineCommand = "engine"

// serveEngine serves the embedded engine until SIGTERM. The engine listens on the
// loopback interface and answers to its names only, so requests to the host's address
// are passed on.
func serveEngine(args []string) (err error) {
	flags := flag.NewFlagSet(engineCommand, flag.ContinueOnError)
	listen := flags.String("listen", "", "host:port")
	dir := flags.String("dir", "", "folder of the data")
	bin := flags.String("bin", "", "folder of tidegate")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	engine, err := embedded.StartEngine(ctx, embedded.EngineConfig{
		Addr: "127.0.0.1:0", DataDir: *dir, Command: []string{filepath.Join(*bin, "tidegate"), "engine-child"},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: engine.Addr()})
	}}
	server := &http.Server{Addr: *listen, Handler: proxy, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { _ = server.Close() }) // ListenAndServe tells
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
