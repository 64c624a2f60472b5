package syslog

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// trusted is what a receiver over TLS presents: the system's authorities are its alone here.
var trusted *tls.Config

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	h := httptest.NewTLSServer(nil) // for its certificate
	defer h.Close()
	trusted = &tls.Config{Certificates: h.TLS.Certificates, MinVersion: tls.VersionTLS12}
	dir, err := os.MkdirTemp("", "tidegate-sink-syslog-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw}), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Setenv("SSL_CERT_FILE", file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func TestContract(t *testing.T) {
	for transport, over := range map[string]func(net.Listener) net.Listener{
		"tcp": func(l net.Listener) net.Listener { return l },
		"tls": func(l net.Listener) net.Listener { return tls.NewListener(l, trusted) },
	} {
		t.Run(transport, func(t *testing.T) {
			sinktest.Run(t, func(t *testing.T) sinktest.Subject {
				var broken atomic.Bool
				r := receive(t, over(listen(t)), func(r *receiver, c net.Conn) {
					if !broken.Load() {
						readFrames(r, c)
					}
				})
				return sinktest.Subject{
					Sink: open(t, "syslog://"+r.Addr().String()+"?transport="+transport, loopback),
					Stored: func(o logpush.Object) ([]byte, bool) {
						texts := r.batches(t)[o.BatchID]
						return bytes.Join(texts, []byte("\n")), texts != nil
					},
					Count: func() int { return len(r.batches(t)) },
					Break: func() { broken.Store(true) },
				}
			})
		})
	}
}

var structured = regexp.MustCompile(`^[^[]*\[tidegate@32473 batch="([^"]*)" record="(\d+)"[^]]*\] `)

// batches returns what a reader has who counts each message once: the texts of each
// batch, in order.
func (r *receiver) batches(t *testing.T) map[string][][]byte {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	texts := map[string][][]byte{}
	for _, message := range r.got {
		parts := structured.FindStringSubmatch(message[:min(len(message), maxHead)])
		if parts == nil {
			t.Fatalf("the message is %q", message)
		}
		record, err := strconv.Atoi(parts[2])
		if err != nil {
			t.Fatal(err)
		}
		id, text := parts[1], []byte(message[len(parts[0]):])
		switch got := texts[id]; {
		case record == len(got):
			texts[id] = append(got, text)
		case record > len(got):
			t.Fatalf("record %d of batch %s came as number %d", record, id, len(got))
		case !bytes.Equal(got[record], text):
			t.Fatalf("record %d of batch %s came again as %q", record, id, text)
		}
	}
	return texts
}
