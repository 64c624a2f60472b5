package runtime

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/schema"
)

const (
	sinkBodyMax  = 8 << 20 // router.js sends a megabyte of characters, or one item
	sinkItemsMax = 4096    // router.js sends 512
	sinkLineMax  = 4 << 20 // workerd keeps a quarter of a megabyte of logs an invocation
	// sinkDrain is how long the rest of a dead process's invocations may take to be read.
	sinkDrain = 2 * time.Second
)

// Reasons why an invocation that ended in a process did not reach the gateway.
const (
	dropQueue      = "queue"      // the process had more of them than its queue holds
	dropUnreadable = "unreadable" // it did not decode
	dropCut        = "cut"        // the process died while it handed it over
	dropTooMany    = "too_many"   // the body was above its bounds
)

// sink receives what ended in one process.
type sink struct {
	versionID string
	deliver   func(versionID string, inv schema.Invocation)
	dropped   func(n int, reason string)
	permit    http.HandlerFunc // of calls to Durable Objects
	log       *slog.Logger
	server    *http.Server
	served    chan struct{}
}

func listenSink(path, versionID string, m *metrics, deliver func(string, schema.Invocation), permit http.HandlerFunc, log *slog.Logger) (*sink, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	s := &sink{versionID: versionID, deliver: deliver, dropped: m.dropped, permit: permit, log: log, served: make(chan struct{})}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() {
		defer close(s.served)
		if err := s.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("invocations of a Worker can no longer be received", "version_id", versionID, "error", err)
		}
	}()
	return s, nil
}

// close returns when the invocations that a dead process has sent are delivered.
func (s *sink) close() {
	ctx, cancel := context.WithTimeout(context.Background(), sinkDrain)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.log.Warn("invocations of a Worker were not read in time", "version_id", s.versionID, "error", err)
		_ = s.server.Close() // Shutdown's error is the one that matters
	}
	<-s.served
}

// ServeHTTP takes one batch, a JSON object a line, or asks for a permit.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == permitPath {
		s.permit(w, r)
		return
	}
	if n, err := strconv.Atoi(r.Header.Get("Tidegate-Dropped")); err == nil && n > 0 {
		s.dropped(n, dropQueue)
	}
	if err := s.read(http.MaxBytesReader(w, r.Body, sinkBodyMax)); err != nil {
		s.log.Warn("a batch of a Worker's invocations was not read whole", "version_id", s.versionID, "error", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read delivers each whole line. An error is about the rest of the body; a line
// that does not decode costs only itself.
func (s *sink) read(body io.Reader) error {
	r := bufio.NewReaderSize(body, 64<<10)
	for items := 0; ; items++ {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && items == sinkItemsMax {
			err = errTooManyItems
		}
		if err != nil {
			reason := dropCut
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok || errors.Is(err, errTooManyItems) || errors.Is(err, errLineTooLong) {
				reason = dropTooMany
			}
			s.dropped(1, reason) // at least
			return err
		}
		inv, err := decodeInvocation(line)
		if err != nil {
			s.dropped(1, dropUnreadable)
			s.log.Warn("an invocation of a Worker cannot be read", "version_id", s.versionID, "error", err)
			continue
		}
		s.deliver(s.versionID, inv)
	}
}

var (
	errTooManyItems = errors.New("the batch has more than " + strconv.Itoa(sinkItemsMax) + " invocations")
	errLineTooLong  = errors.New("an invocation has more than " + strconv.Itoa(sinkLineMax) + " bytes")
)

// readLine returns a line without its end, valid until the next call; io.EOF after
// the last. A line without an end is io.ErrUnexpectedEOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	long := append([]byte(nil), line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > sinkLineMax {
			return nil, errLineTooLong
		}
		line, err = r.ReadSlice('\n')
		long = append(long, line...)
	}
	switch {
	case err == nil:
		return long[:len(long)-1], nil
	case errors.Is(err, io.EOF) && len(long) > 0:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// metrics counts what happens to processes and their invocations.
type metrics struct {
	drops, restarts, kills, moves metric.Int64Counter
}

func (m *metrics) dropped(n int, reason string) {
	m.drops.Add(context.Background(), int64(n), metric.WithAttributes(attribute.String("reason", reason)))
}
