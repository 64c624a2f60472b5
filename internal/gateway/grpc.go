package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidegate/schema"
)

// A gRPC call may say how long its client waits. Then the client, the gateway and the
// origin each have a clock for it, and any of them may run out first: a busy client's
// last. Whoever is first, the call has ended for want of time, and the client has
// given up the version, as if it had left. That an origin ends such a stream by a reset
// (gRPC for Go does) is no fault of its.

// grpcStatusOverdue is gRPC's DEADLINE_EXCEEDED.
const grpcStatusOverdue = "4"

const grpcMessageOverdue = "The time that the client gave this call is over."

// withCallDeadline gives the context of a gRPC call the deadline that its client has, as
// far as the gateway can know it; cancel is never nil.
func withCallDeadline(ctx context.Context, r *http.Request, received time.Time) (_ context.Context, cancel context.CancelFunc) {
	if !isGRPC(r) {
		return ctx, func() {}
	}
	timeout, ok := grpcTimeout(r.Header.Get("Grpc-Timeout"))
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, received.Add(timeout))
}

func isGRPC(r *http.Request) bool {
	if r.ProtoMajor != 2 {
		return false
	}
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';') // not application/grpc-web
}

// grpcTimeout reads a Grpc-Timeout: at most eight digits and a unit. Any other is the
// origin's to refuse.
func grpcTimeout(text string) (time.Duration, bool) {
	if len(text) < 2 || len(text) > 9 {
		return 0, false
	}
	digits := text[:len(text)-1]
	unit, ok := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}[text[len(text)-1]]
	if !ok || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	const most = time.Duration(1<<63 - 1)
	if time.Duration(n) > most/unit/2 { // centuries, to which a time can still be added
		return most / 2, true
	}
	return time.Duration(n) * unit, true
}

// overdue reports whether the time of a call is over. On a busy machine a context may be
// past its deadline and not know it yet.
func overdue(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// saysOverdue reports whether a version's response says that the time of a call is over, as
// ours would have: its clock was the first.
func saysOverdue(ctx context.Context, resp *http.Response) bool {
	if firstOf(resp.Trailer["Grpc-Status"]) != grpcStatusOverdue && firstOf(resp.Header["Grpc-Status"]) != grpcStatusOverdue {
		return false // first: a context asks all those that it was made of for its deadline
	}
	_, bounded := ctx.Deadline()
	return bounded
}

// answerOverdue ends a call that has no response yet, by a status in the header.
func answerOverdue(w http.ResponseWriter, x *exchange) {
	x.outcome, x.status = schema.OutcomeCanceled, http.StatusOK
	h := w.Header()
	h["Content-Type"] = []string{"application/grpc"}
	h["Grpc-Status"], h["Grpc-Message"] = []string{grpcStatusOverdue}, []string{grpcMessageOverdue}
	w.WriteHeader(x.status)
}

// endOverdue ends a call whose response has begun, by a status in the trailer.
func endOverdue(w http.ResponseWriter, x *exchange) {
	x.outcome = schema.OutcomeCanceled
	copyTrailers(w.Header(), http.Header{"Grpc-Status": {grpcStatusOverdue}, "Grpc-Message": {grpcMessageOverdue}})
}
