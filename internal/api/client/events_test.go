package client

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestReadStream(t *testing.T) {
	f := func(stream, want string) {
		t.Helper()
		var got strings.Builder
		err := readStream(strings.NewReader(stream), eventLineMax, func(name string, data []byte) error {
			fmt.Fprintf(&got, "%s=%s;", name, data)
			return nil
		})
		if got.String() != want || errs.KindOf(err) != errs.Unavailable {
			t.Errorf("%q is %q, %v; want %q", stream, got.String(), err, want)
		}
	}
	f("", "")
	f("event: event\ndata: {\"a\":1}\n\nevent: heartbeat\ndata: {}\n\n", `event={"a":1};heartbeat={};`)
	f("event:event\r\ndata:{}\r\n\r\n", "event={};")
	f(": only a comment\n\ndata: one\ndata: two\nid: 7\nretry: 1\n\n", "=one\ntwo;")
	f("event: lost\n\ndata\n\n", "=;")
	f("event: event\ndata: broken off", "") // no empty line: it is not whole
}

func TestReadStreamEndsWhereItMust(t *testing.T) {
	stop := errors.New("stop")
	if err := readStream(strings.NewReader("data: 1\n\ndata: 2\n\n"), eventLineMax, func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the stream ends with %v", err)
	}
	never := func(string, []byte) error { t.Error("what is too long was handed on"); return nil }
	long := "data: " + strings.Repeat("x", eventLineMax)
	many := strings.Repeat("data: "+strings.Repeat("x", eventLineMax/2)+"\n", 3)
	for _, stream := range []string{long + "\n\n", many + "\n\n"} {
		if err := readStream(strings.NewReader(stream), eventLineMax, never); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("a long event: %v", err)
		}
	}
}

// FuzzReadStream: what is handed on was in the stream, is bounded, and has no end of line of
// its own where there is one line of data.
func FuzzReadStream(f *testing.F) {
	f.Add([]byte("event: event\ndata: {}\n\n"))
	f.Add([]byte(":\r\ndata:\rdata\n\n\xff"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		err := readStream(bytes.NewReader(stream), eventLineMax, func(name string, data []byte) error {
			if len(data) > len(stream) || strings.Contains(name, "\n") || bytes.Count(data, []byte("\n"))+1 > bytes.Count(stream, []byte("data")) {
				t.Errorf("%q has %q %q", stream, name, data)
			}
			return nil
		})
		if err == nil {
			t.Errorf("%q does not end", stream)
		}
	})
}
