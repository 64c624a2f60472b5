package gateway

import (
	"net/http"
	"time"
)

// Limits towards clients. Bodies have none: they stream.
const (
	headerBytesMax    = 128 << 10 // Cloudflare's limit for a request's header
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
)

// NewServer returns a server for the public with limits on everything that a
// client could hold on to without sending a request. Its Shutdown waits for the
// requests in flight, except switched connections, which end with Gateway.Run.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		MaxHeaderBytes:    headerBytesMax,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
	}
}
