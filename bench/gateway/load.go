package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"time"

	"tidegate/test/load"
)

// result of one measurement.
type result struct {
	load.Result
	CPU time.Duration `json:"-"` // of the proxy, per request
}

// request is what a browser would send for an API call, less its cookies.
const request = "GET /api/items/12345?view=full HTTP/1.1\r\nHost: " + host + "\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nReferer: http://" + host + "/items?page=2\r\n\r\n"

// serveLoad sends requests over args[1] connections to args[0] for args[2] and
// prints the result.
func serveLoad(ctx context.Context, args []string) error {
	conns, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	r, err := load.Run(ctx, load.Target{Network: "tcp", Addr: args[0], Request: request, BodyBytes: len(upstreamBody)}, conns, d)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result{Result: r})
}
