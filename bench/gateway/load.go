package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tidegate/test/load"
)

// result of one measurement.
type result struct {
	load.Result
	LoadCPU time.Duration `json:"-"` // of the load process, in all
	CPU     time.Duration `json:"-"` // of the proxy, per request
	Others  time.Duration `json:"-"` // of the load, the upstreams and the broker, per request
}

// loadOptions is what a load process is to do.
type loadOptions struct {
	Conns    int           `json:"conns"`
	Duration time.Duration `json:"duration"`
	Rate     float64       `json:"rate,omitempty"`  // requests a second; 0 is as many as are answered
	Large    bool          `json:"large,omitempty"` // ask for the large body
	Idle     bool          `json:"idle,omitempty"`  // ask once on each connection, and hold it
}

const headerLines = " HTTP/1.1\r\nHost: " + host + "\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nReferer: http://" + host + "/items?page=2\r\n\r\n"

// request is what a browser would send for an API call, less its cookies.
const request = "GET /api/items/12345?view=full" + headerLines

// serveLoad sends requests to args[0] as args[1] says and prints the result.
func serveLoad(ctx context.Context, args []string) error {
	var o loadOptions
	if err := json.Unmarshal([]byte(args[1]), &o); err != nil {
		return err
	}
	target := load.Target{Network: "tcp", Addr: args[0], Request: request, BodyBytes: len(upstreamBody)}
	if o.Idle {
		return holdIdle(ctx, target, o.Conns)
	}
	if o.Large {
		target.Request, target.BodyBytes = "GET "+largePath+headerLines, largeBytes
	}
	run := load.Run
	if o.Rate > 0 {
		run = func(ctx context.Context, t load.Target, conns int, d time.Duration) (load.Result, error) {
			return load.RunPaced(ctx, t, conns, d, o.Rate)
		}
	}
	r, err := run(ctx, target, o.Conns, o.Duration)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result{Result: r})
}

// holdIdle opens connections, gets an answer on each, says so, and holds them until it is told to end.
func holdIdle(ctx context.Context, t load.Target, conns int) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	for range conns {
		c, err := (&net.Dialer{}).DialContext(ctx, t.Network, t.Addr)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // nothing is in flight
		if _, err := io.WriteString(c, t.Request); err != nil {
			return err
		}
		var answer [4096]byte // more than there is in it
		n, err := c.Read(answer[:])
		if err != nil {
			return err
		}
		if string(answer[:12]) != "HTTP/1.1 200" {
			return errors.New("an idle connection was answered " + string(answer[:n]))
		}
	}
	fmt.Println(conns)
	<-ctx.Done()
	return nil
}
