package runtime

import (
	"context"
	"net/http/httptrace"
	"net/textproto"
)

// traceHints calls f for every informational response, as the gateway does.
func traceHints(ctx context.Context, f func(code int, h textproto.MIMEHeader)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error { f(code, h); return nil },
	})
}
