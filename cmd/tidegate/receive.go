package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
	"tidegate/internal/signature"
)

// receiveStop is how long requests in hand may take at the end.
const receiveStop = 5 * time.Second

func receiveCommand() *cobra.Command {
	r := &receiver{seen: map[string]seen{}, now: time.Now}
	var addr string
	command := &cobra.Command{
		Use: "receive", Short: "Show the batches that a Logpush job sends, as an HTTP destination on this machine",
		Long: "Be an HTTP destination on this machine and show what arrives: a line about each request, then its body, decompressed.\n" +
			"It needs no platform and no token. With --fail-rate it refuses some batches: with 503 they come again,\n" +
			"with 400 or 422 they are divided, and what is refused alone becomes a dead letter. A job's test is shown as \"no batch\".",
		Example: "  tidegate receive --lines 3\n  tidegate receive --secret 0123456789abcdef --fail-rate 0.2 --status 429\n" +
			"  tidegate receive --fail-rate 0.8 --status 400",
		Args: arguments(0, 0),
	}
	flags := command.Flags()
	flags.StringVar(&addr, "addr", "127.0.0.1:9800", "address to listen on; port 0 is any free one")
	flags.StringVar(&r.secret, "secret", "", "hmac-secret of the job: signatures are checked with it")
	flags.Float64Var(&r.failRate, "fail-rate", 0, "share of the batches to refuse, from 0 to 1; a destination's test is never refused")
	flags.IntVar(&r.status, "status", http.StatusServiceUnavailable, "status to refuse them with, from 400 to 599")
	flags.IntVar(&r.lines, "lines", 10, "lines to show of a body; 0 is all of them")
	flags.BoolVar(&r.quiet, "quiet", false, "show no bodies")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(app.ValidAddr("addr", addr), r.check()); err != nil {
			return usage(cmd, err)
		}
		r.out = cmd.OutOrStdout()
		return r.run(cmd.Context(), addr)
	}
	return command
}

func (r *receiver) check() error {
	switch {
	case r.secret != "" && len(r.secret) < signature.SecretMin:
		return fmt.Errorf("--secret has %d characters: it must have at least %d, as hmac-secret", len(r.secret), signature.SecretMin)
	case !(r.failRate >= 0 && r.failRate <= 1):
		return fmt.Errorf("--fail-rate is %v: it must be from 0 to 1", r.failRate)
	case r.status < 400 || r.status > 599:
		return fmt.Errorf("--status is %d: it must be from 400 to 599", r.status)
	case r.lines < 0:
		return fmt.Errorf("--lines is %d: it must be 0 or more", r.lines)
	}
	return nil
}

// run serves until ctx ends, which is no failure.
func (r *receiver) run(ctx context.Context, addr string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("receive: %w: end what uses it, or give another address with --addr", err)
	}
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if _, err := fmt.Fprintf(r.out, "Receiving. The destination_conf is\n%s\n", r.destination(listener.Addr().String())); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("receive: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), receiveStop)
	defer cancel()
	if err := server.Shutdown(stopping); err != nil {
		_ = server.Close() // what hangs is broken off
	}
	<-ended
	_, err = io.WriteString(r.out, r.totals())
	return err
}

// destination is what a job needs to send here.
func (r *receiver) destination(address string) string {
	u := url.URL{Scheme: "http", Host: address, Path: "/"}
	if r.secret != "" {
		u.RawQuery = url.Values{"hmac-secret": {r.secret}}.Encode()
	}
	return u.String()
}
