package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// notStored begins what kfake (of September 2026, persist.go there) logs when it could not write a batch.
	notStored = "persist batch"
	// A broker that could not write tries every writableEvery whether it can write writableBytes: more than it needs
	// to close and to open.
	writableEvery = 250 * time.Millisecond
	writableBytes = 1 << 20
)

var errCannotStore = errors.New("the broker could not store a batch, and starts anew when it can write")

// open serves the log in b.dir on addr.
//
// The cluster notes a batch's sequence before it stores the batch. If that fails, it would confirm the batch when it
// comes again, which is nowhere. So from the first failure on it breaks off whoever produces, until it has been opened
// anew with the sequences that the log has (reopen).
//
// The cluster can flush what it writes (kfake.SyncWrites), but confirms a batch even if the disk refuses that: it is gone
// with the power then. Whether a write succeeds it looks at, so where writes can wait for the disk (syncWrites), they do.
func (b *Broker) open(ctx context.Context, addr string) error {
	if err := restoreSequences(b.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(b.dir, 0o750); err != nil {
		return err
	}
	ln, err := listenLoopback(ctx, addr)
	if err != nil {
		return err
	}
	var cluster *kfake.Cluster
	opened := make(chan struct{})
	refuse := sync.OnceFunc(func() {
		<-opened // no batch is stored before it, but perhaps while NewCluster returns
		cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			return nil, errCannotStore, true
		})
		b.failed <- struct{}{} // has room: the one of the cluster before was taken before this one was opened
	})
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return ln, nil }),
		kfake.ClusterID("tidegate"),
		kfake.DataDir(b.dir),
		kfake.GroupMinSessionTimeout(minSessionTimeout),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": neverMS}),
		kfake.WithLogger(brokerLog{b.log, refuse}),
	}
	if err := syncWrites(b.dir); err != nil {
		b.log.Info("embedded kafka does not notice when the disk takes a batch and fails to keep it: that takes a data directory on ext4", "data_dir", b.dir, "reason", err)
		options = append(options, kfake.SyncWrites())
	}
	cluster, err = kfake.NewCluster(options...)
	if err != nil {
		_ = ln.Close() // closed already, unless the broker failed before it took the listener over
		return err
	}
	close(opened)
	b.cluster = cluster
	if b.addr == "" { // the same ever after, and others read it
		b.addr = ln.Addr().String()
	}
	return nil
}

// reopen opens the log anew at the same address when it can be written to. Until then the old cluster serves whoever
// reads.
func (b *Broker) reopen(ctx context.Context) {
	b.log.Error("embedded kafka takes no records until it can write again; look at the disk", "data_dir", b.dir)
	if !retry(ctx, func() error { return tryWriting(filepath.Join(b.dir, "room.tmp")) }) {
		return
	}
	b.cluster.Close()
	opened := retry(ctx, func() error {
		err := b.open(ctx, b.addr)
		if err != nil {
			b.log.Error("embedded kafka could not be opened anew", "data_dir", b.dir, "error", err)
		}
		return err
	})
	if opened {
		b.log.Warn("embedded kafka takes records again", "addr", b.addr, "data_dir", b.dir)
	}
}

// retry calls f until it succeeds, and reports false if ctx ends before.
func retry(ctx context.Context, f func() error) bool {
	for f() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(writableEvery):
		}
	}
	return true
}

func tryWriting(name string) error {
	err := os.WriteFile(name, make([]byte, writableBytes), 0o600)
	return errors.Join(err, os.Remove(name))
}

// brokerLog passes on what an operator can act on. The broker's own "info" is a line per request.
type brokerLog struct {
	log       *slog.Logger
	notStored func() // called before the broker takes another request
}

func (l brokerLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("embedded kafka", "detail", fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("embedded kafka", "detail", fmt.Sprintf(format, args...))
		if strings.HasPrefix(format, notStored) {
			l.notStored()
		}
	default:
	}
}
