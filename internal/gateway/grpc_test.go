package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// grpcService is an origin that speaks gRPC.
type grpcService struct {
	pb.UnimplementedTestServiceServer
	ended chan error    // of calls that wait for their end
	began chan struct{} // told once a call of StreamingInputCall has its first message
}

func (s *grpcService) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "last", "x-data-bin", "\x00\x01\xff"))
	if st := in.GetResponseStatus(); st != nil {
		return nil, status.Error(codes.Code(st.GetCode()), st.GetMessage())
	}
	if in.GetFillUsername() { // stands for "wait"
		_, hasDeadline := ctx.Deadline()
		<-ctx.Done()
		s.ended <- fmt.Errorf("deadline %t: %w", hasDeadline, ctx.Err())
		return nil, ctx.Err()
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-seen", strings.Join(md["x-sent"], ",")))
	return &pb.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (s *grpcService) StreamingOutputCall(in *pb.StreamingOutputCallRequest, out grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for range in.GetResponseParameters() {
		if err := out.Send(&pb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
	return status.Error(codes.DataLoss, "told after the messages")
}

func (s *grpcService) StreamingInputCall(in grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	size := int32(0)
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		if err != nil {
			return err
		}
		size += int32(len(m.GetPayload().GetBody()))
		select {
		case s.began <- struct{}{}:
		default:
		}
	}
}

func (s *grpcService) FullDuplexCall(both grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		m, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			s.ended <- err
			return err
		}
		if err := both.Send(&pb.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// throughGRPC is a gateway between a gRPC server and a client of it.
func throughGRPC(t *testing.T) (*env, *grpcService, pb.TestServiceClient) {
	t.Helper()
	e, service, _, c := throughGRPCServer(t, nil)
	return e, service, c
}

// throughGRPCServer is throughGRPC with time-outs of the origin, and its server.
func throughGRPCServer(t *testing.T, timeouts *deploy.OriginTimeouts) (*env, *grpcService, *grpc.Server, pb.TestServiceClient) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	service := &grpcService{ended: make(chan error, 1), began: make(chan struct{}, 1)}
	server := grpc.NewServer()
	pb.RegisterTestServiceServer(server, service)
	go func() { _ = server.Serve(l) }() // until Stop
	t.Cleanup(server.Stop)
	sc := script([]string{"h2c://" + l.Addr().String()}, 100_000)
	sc.Versions[0].Origin.Timeouts = timeouts
	e := start(t, snapshot(1, sc))
	conn, err := grpc.NewClient("passthrough:///"+e.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("shop.dev.localhost"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return e, service, server, pb.NewTestServiceClient(conn)
}

func payload(text string) *pb.Payload { return &pb.Payload{Body: []byte(text)} }

func TestGRPCUnary(t *testing.T) {
	e, _, c := throughGRPC(t)
	var header, trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-sent", "hello")
	big := strings.Repeat("tide", 500_000) // more than a stream's window
	out, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(big)}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.MaxCallRecvMsgSize(8<<20))
	if err != nil || string(out.GetPayload().GetBody()) != big {
		t.Fatalf("%d bytes, %v", len(out.GetPayload().GetBody()), err)
	}
	if header.Get("x-seen")[0] != "hello" || len(header.Get("cf-ray")) != 1 || header.Get("x-trailer") != nil {
		t.Errorf("the header is %v", header)
	}
	if trailer.Get("x-trailer")[0] != "last" || trailer.Get("x-data-bin")[0] != "\x00\x01\xff" {
		t.Errorf("the trailer is %v", trailer)
	}
	ev := e.events.nth(1)
	wantEvent(t, ev, schema.OutcomeOK, "", 200)
}

// A call that fails before its first message has its status in the header, which
// must be the end of the stream.
func TestGRPCStatus(t *testing.T) {
	e, _, c := throughGRPC(t)
	var trailer metadata.MD
	_, err := c.UnaryCall(t.Context(), &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.FailedPrecondition), Message: "ebb, not flood: äö"}}, grpc.Trailer(&trailer))
	if st := status.Convert(err); st.Code() != codes.FailedPrecondition || st.Message() != "ebb, not flood: äö" || trailer.Get("x-trailer")[0] != "last" {
		t.Errorf("got %v, trailer %v", err, trailer)
	}
	e.events.nth(1)
	_, err = c.EmptyCall(t.Context(), &pb.Empty{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want Unimplemented", err)
	}
	e.events.nth(2)
}

func TestGRPCStreams(t *testing.T) {
	e, _, c := throughGRPC(t)
	down, err := c.StreamingOutputCall(t.Context(), &pb.StreamingOutputCallRequest{Payload: payload("drop"), ResponseParameters: make([]*pb.ResponseParameters, 100)})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, err = down.Recv(); err != nil {
			break
		}
	}
	if status.Code(err) != codes.DataLoss || n != 100 {
		t.Errorf("%d messages, then %v, want 100, then DataLoss", n, err)
	}
	e.events.nth(1)

	up, err := c.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := up.Send(&pb.StreamingInputCallRequest{Payload: payload("drop")}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := up.CloseAndRecv(); err != nil || sum.GetAggregatedPayloadSize() != 400 {
		t.Errorf("got %v, %v", sum, err)
	}
	e.events.nth(2)

	both, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // each comes back before the next one is sent
		want := fmt.Sprint("message ", i)
		if err := both.Send(&pb.StreamingOutputCallRequest{Payload: payload(want)}); err != nil {
			t.Fatal(err)
		}
		if m, err := both.Recv(); err != nil || string(m.GetPayload().GetBody()) != want {
			t.Fatalf("got %v, %v", m, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	wantEvent(t, e.events.nth(3), schema.OutcomeOK, "", 200)
}

// The server hears of a client that has left, by itself or because its time is over,
// and the event does not blame the version.
func TestGRPCCancellation(t *testing.T) {
	e, service, c := throughGRPC(t)
	ctx, cancel := context.WithCancel(t.Context())
	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Send(&pb.StreamingOutputCallRequest{Payload: payload("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-service.ended; status.Code(err) != codes.Canceled {
		t.Errorf("the server saw %v, want Canceled", err)
	}
	if ev := e.events.nth(1); ev.Outcome != schema.OutcomeCanceled {
		t.Errorf("the outcome is %s", ev.Outcome)
	}

	for patience := 50 * time.Millisecond; ; patience *= 4 { // the call must reach the server before its time is over
		e, service, c = throughGRPC(t)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := c.UnaryCall(ctx, &pb.SimpleRequest{FillUsername: true}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the client saw %v, want DeadlineExceeded", err)
		}
		select {
		case err := <-service.ended:
			if !strings.Contains(err.Error(), "deadline true") {
				t.Errorf("the server saw %v, and no deadline", err)
			}
			if ev := e.events.nth(1); ev.Outcome != schema.OutcomeCanceled {
				t.Errorf("the outcome is %s", ev.Outcome)
			}
			return
		case <-time.After(time.Second):
			if patience > 10*time.Second {
				t.Fatal("the server was not called")
			}
		}
	}
}

// Each of three clocks may be the first at which a call's time is over. When a client's
// was not, an origin's reset at the deadline, as gRPC for Go sends it, came to the client as
// a 502, which means "unavailable", and the event blamed the version.
func TestGRPCDeadlineWithoutTheClient(t *testing.T) {
	f := func(timeout, path, want, outcome, kind string, status int) {
		t.Helper()
		e := start(t, snapshot(1, script([]string{originH2C(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			switch r.URL.Path {
			case "/says":
				w.Header().Set("Grpc-Status", "4") // its clock is ahead
				return
			case "/stream":
				flush(w)
			}
			if r.URL.Path != "/breaks" {
				<-r.Context().Done() // the deadline is the gateway's, too
			}
			panic(http.ErrAbortHandler)
		})}, 100_000)))
		c := dialFrames(t, e.addr, false)
		id := c.send(true, ":method", "POST", ":scheme", "http", ":authority", "shop.dev.localhost", ":path", path,
			"content-type", "application/grpc", "te", "trailers", "grpc-timeout", timeout)
		if got := c.callResult(id); got != want {
			t.Errorf("%s with %s: got %q, want %q", path, timeout, got, want)
		}
		wantEvent(t, e.events.nth(1), outcome, kind, status)
	}
	f("20m", "/unary", "200 grpc-status 4", schema.OutcomeCanceled, "", 200)
	f("20m", "/stream", "200 grpc-status 4", schema.OutcomeCanceled, "", 200)
	f("1H", "/says", "200 grpc-status 4", schema.OutcomeCanceled, "", 200)
	f("1H", "/breaks", "502 grpc-status ", schema.OutcomeInternalError, schema.ErrorKindReset, 502)
}

// callResult waits for the end of a stream: its HTTP status, and gRPC's.
func (f *frames) callResult(id uint32) string {
	f.t.Helper()
	status, call := "", ""
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			f.t.Fatal(err)
		}
		if frame.Header().StreamID != id {
			continue
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("%s reset %s", status, frame.ErrCode)
		case *http2.MetaHeadersFrame:
			if s := frame.PseudoValue("status"); s != "" {
				status = s
			}
			for _, field := range frame.RegularFields() {
				if field.Name == "grpc-status" {
					call = field.Value
				}
			}
		case *http2.DataFrame:
		default:
			continue
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) { // the same bit for HEADERS
			return status + " grpc-status " + call
		}
	}
}

// The story: a version was killed, or hung, in the middle of calls whose clients listened. They were told
// nothing, for ever, and there were no events.
func TestGRPCCallsEndWithTheirOrigin(t *testing.T) {
	f := func(name string, timeouts *deploy.OriginTimeouts, kill bool, kind string) {
		t.Run(name, func(t *testing.T) {
			e, _, server, c := throughGRPCServer(t, timeouts)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // which only a test that fails waits
			defer cancel()
			both, err := c.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := both.Send(&pb.StreamingOutputCallRequest{Payload: payload("x")}); err != nil {
				t.Fatal(err)
			}
			if _, err := both.Recv(); err != nil {
				t.Fatal(err)
			}
			if kill {
				server.Stop() // and its connections
			}
			if _, err := both.Recv(); err == nil || ctx.Err() != nil {
				t.Fatalf("the client is told %v", err)
			}
			wantEvent(t, e.events.nth(1), schema.OutcomeResponseStreamDisconnected, kind, 200)
		})
	}
	f("killed", nil, true, schema.ErrorKindReset)
	f("hung", &deploy.OriginTimeouts{BetweenBytesMS: 2000}, false, schema.ErrorKindTimeout)

	t.Run("killed before its answer", func(t *testing.T) {
		e, service, server, c := throughGRPCServer(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // below Config.BodyTimeout
		defer cancel()
		in, err := c.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Send(&pb.StreamingInputCallRequest{Payload: payload("x")}); err != nil {
			t.Fatal(err)
		}
		<-service.began
		server.Stop()
		if err := in.RecvMsg(&pb.StreamingInputCallResponse{}); err == nil || ctx.Err() != nil {
			t.Fatalf("the client is told %v", err)
		}
		wantEvent(t, e.events.nth(1), schema.OutcomeInternalError, schema.ErrorKindReset, 502)
	})
}
