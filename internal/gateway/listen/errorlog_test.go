package listen

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A client that does not trust the certificate is no line in the log, a handler that
// panics is.
func TestHandshakesThatFailAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	errorLog, err := ErrorLog(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	counted := make(chan struct{}, 1)
	w := errorLog.Writer().(*serverLog)
	errorLog.SetOutput(writerFunc(func(line []byte) (int, error) {
		n, err := w.Write(line)
		if bytes.HasPrefix(line, handshakeError) {
			counted <- struct{}{}
		}
		return n, err
	}))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("on purpose") }))
	server.Config.ErrorLog = errorLog
	server.StartTLS()
	if _, err := (&http.Client{}).Get(server.URL); err == nil { //nolint:bodyclose // there is none
		t.Fatal("the certificate was trusted")
	}
	select {
	case <-counted:
	case <-time.After(time.Minute):
		t.Error("net/http words a failed handshake otherwise")
	}
	if _, err := server.Client().Get(server.URL); err == nil { //nolint:bodyclose // there is none
		t.Error("the handler answered")
	}
	server.Close()
	if strings.Contains(log.String(), "handshake") || !strings.Contains(log.String(), "on purpose") {
		t.Errorf("the log says %s", log.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
