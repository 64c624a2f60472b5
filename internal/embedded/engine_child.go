package embedded

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The parent hands the child its listening socket and the reading end of a pipe whose writing end the parent
// alone holds: when it reads the end of the pipe, the parent is gone.
const (
	listenerFD = 3
	lifelineFD = 4
)

// exitWriteFailed is the exit code that goes with errWriteFailed; 2 is Go's own.
const exitWriteFailed = 3

// childGrace is how long a child that is told to stop lets queries finish before it cancels them.
const childGrace = 4 * time.Second

// RunEngineChild is the program of the engine's child process: it loads the ClickHouse engine and serves its
// HTTP interface on the socket that StartEngine passes, until SIGTERM or the death of the parent. It returns
// the exit code. args are the flags that StartEngine gives to EngineConfig.Command, the last of the program's
// arguments: where the system has a sandbox, the program starts itself again in it before it does anything else.
func RunEngineChild(args []string) int {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runEngineChild(ctx, log, args); err != nil {
		log.Error("engine failed", "error", err.Error())
		return 1
	}
	return 0
}

// childEnvironment is all that the child knows of its parent's environment, in which there may be secrets.
// Dates and hours of a query do not depend on where the machine stands.
func childEnvironment(dataDir string) []string { return []string{"TZ=UTC", "TMPDIR=" + dataDir} }

func runEngineChild(ctx context.Context, log *slog.Logger, args []string) error {
	flags := flag.NewFlagSet("engine-child", flag.ContinueOnError)
	dir := flags.String("data-dir", "", "data directory, absolute")
	library := flags.String("library", "", "path of libchdb.so")
	memory := flags.Int64("memory-limit", 0, "bytes the engine may use")
	sandbox := flags.String("sandbox", "", "what confines this process; set by itself")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *sandbox == "" {
		err := enterSandbox("--sandbox", *dir, *library)
		if !errors.Is(err, errNoSandbox) {
			return err
		}
		log.Warn("engine is not confined: whoever can send it a query can read, through it, what this user can read", "reason", err.Error())
	} else {
		log.Info("engine is confined", "sandbox", *sandbox)
	}
	lifeline := os.NewFile(lifelineFD, "lifeline")
	socket := os.NewFile(listenerFD, "listener")
	ln, err := net.FileListener(socket)
	if err != nil {
		return fmt.Errorf("the engine child needs a listening socket as file %d, as StartEngine passes it: %w", listenerFD, err)
	}
	if err := socket.Close(); err != nil {
		return fmt.Errorf("close the passed socket's first descriptor: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, lifeline) // any end is the end
		// Answered inserts are on disk, and nobody is left to wait for the others.
		os.Exit(1) //nolint:revive // this process is nothing but the engine, and its parent is gone
	}()

	unlock, err := Lock(ctx, *dir)
	if err != nil {
		return err
	}
	// The engine reads a config.xml in the working directory if there is one, and temporary files go there.
	if err := os.Chdir(*dir); err != nil {
		return err
	}
	return errors.Join(serveEngine(ctx, log, ln, *dir, *library, *memory), unlock())
}

// serveEngine opens the engine, serves it on ln until ctx ends, and closes it.
func serveEngine(ctx context.Context, log *slog.Logger, ln net.Listener, dir, library string, memory int64) error {
	config, err := writeConfig(dir, memory)
	if err != nil {
		return fmt.Errorf("write the engine's configuration: %w", err)
	}
	lib, err := loadChdb(library)
	if err != nil {
		return err
	}
	e, err := openWhole(ctx, lib, dir, config, log)
	if err != nil {
		return err
	}
	defer e.close()
	s, err := newServer(ctx, e, dir, log)
	if err != nil {
		return err
	}

	// Queries outlive ctx for childGrace, then they are cancelled and waited for.
	queries, cancelQueries := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelQueries()
	web := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return queries },
		ReadHeaderTimeout: receiveTimeout,
		IdleTimeout:       10 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(ln) }()
	log.Info("engine serves", "version", s.info.version, "data_dir", dir)

	go func() {
		<-s.writes.failed
		// At once, also while ctx has ended: nothing is answered with success any more, and the engine would remove
		// the parts that a merge took.
		log.Error("engine failed", "error", errWriteFailed.Error())
		os.Exit(exitWriteFailed) //nolint:revive // this process is nothing but the engine
	}()

	watched := make(chan struct{})
	watching, stopWatching := context.WithCancel(ctx)
	go func() { s.writes.watch(watching); close(watched) }()
	defer func() { stopWatching(); <-watched }()

	select {
	case err := <-served:
		return fmt.Errorf("serve the engine: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), childGrace)
	defer cancel()
	err = web.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("engine cancels the queries that are still running", "grace", childGrace.String())
		cancelQueries()
		err = web.Shutdown(context.WithoutCancel(ctx))
	}
	<-served // http.ErrServerClosed
	return err
}
