package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"tidegate/internal/signature"
)

const receiveSecret = "a secret of the tests"

// compressed returns a text in a Content-Encoding.
func compressed(t *testing.T, encoding, text string) []byte {
	t.Helper()
	var body bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&body)
	case "zstd":
		zip, err := zstd.NewWriter(&body)
		if err != nil {
			t.Fatal(err)
		}
		w = zip
	default:
		return []byte(text)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return body.Bytes()
}

// receive gives a receiver one request and returns its answer and what it showed.
func receive(t *testing.T, r *receiver, encoding string, body []byte, header ...string) (status int, shown string) {
	t.Helper()
	var out bytes.Buffer
	r.out = &out
	if r.seen == nil {
		r.seen, r.now = map[string]seen{}, func() time.Time { return time.Unix(1_790_000_000, 0).UTC() }
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, req)
	return answer.Code, out.String()
}

func TestReceiverShowsWhatArrives(t *testing.T) {
	for _, encoding := range []string{"", "gzip", "zstd"} {
		r := &receiver{secret: receiveSecret, lines: 2}
		body := compressed(t, encoding, "{\"a\":1}\n{\"b\":\"\x1b[2J\"}\nthird\nfourth")
		signed, err := signature.Sign(receiveSecret, time.Unix(1_790_000_000, 0), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		head := []string{"Tidegate-Batch-Id", "4-0-17", "Tidegate-Job-Id", "4", "Tidegate-Records", "4", "Content-Type", "application/x-ndjson", signature.Header, signed}
		status, shown := receive(t, r, encoding, body, head...)
		first, rest, _ := strings.Cut(shown, "\n")
		for _, want := range []string{"2026-09-21T", "batch 4-0-17 of job 4", "4 records", "33 bytes", "application/x-ndjson", "signature ok"} {
			if !strings.Contains(first, want) {
				t.Errorf("%q: %q does not say %q", encoding, first, want)
			}
		}
		if status != http.StatusOK || rest != "{\"a\":1}\n{\"b\":\" [2J\"}\n... 2 more lines\n" || strings.Contains(first, "repeat") {
			t.Errorf("%q: answered %d, showed\n%s", encoding, status, shown)
		}
		if _, shown = receive(t, r, encoding, body, head...); !strings.Contains(shown, "a repeat of what was taken") {
			t.Errorf("of a repeat it showed %s", shown)
		}
		body[len(body)-1] ^= 1 // the text, or its checksum
		if _, shown = receive(t, r, encoding, body, head...); !strings.Contains(shown, "signature bad") {
			t.Errorf("of a body that was tampered with it showed %s", shown)
		}
		r.secret = ""
		if _, shown = receive(t, r, encoding, body, head...); !strings.Contains(shown, "signature not checked") {
			t.Errorf("without a secret it showed %s", shown)
		}
	}
	r := &receiver{quiet: true}
	if status, shown := receive(t, r, "", []byte("a\nb\n")); status != http.StatusOK || strings.Count(shown, "\n") != 1 || !strings.Contains(shown, "no batch") || !strings.Contains(shown, "signature none") {
		t.Errorf("a quiet one answered %d, showed %q", status, shown)
	}
	r = &receiver{}
	if _, shown := receive(t, r, "", []byte(strings.Repeat("x", 3*receiveLineMax)+"\nend")); !strings.HasSuffix(shown, "x...\nend\n") || len(shown) > receiveLineMax+200 {
		t.Errorf("a long line became %d bytes", len(shown))
	}
}

func TestReceiverRefuses(t *testing.T) {
	r := &receiver{failRate: 1, status: http.StatusTooManyRequests}
	if status, shown := receive(t, r, "", []byte("a"), "Tidegate-Batch-Id", "1-0-0"); status != http.StatusTooManyRequests || !strings.Contains(shown, "answered 429") {
		t.Errorf("answered %d, showed %s", status, shown)
	}
	if status, _ := receive(t, r, "", []byte("a")); status != http.StatusOK {
		t.Errorf("a destination's test was answered %d", status)
	}
	r.failRate = 0
	if status, shown := receive(t, r, "", []byte("a"), "Tidegate-Batch-Id", "1-0-0", "Tidegate-Records", "1"); status != http.StatusOK || !strings.Contains(shown, "try 2") {
		t.Errorf("after a refusal it answered %d, showed %s", status, shown)
	}
	if got := r.totals(); got != "batches taken: 1, with 1 record, 0 of them repeats; refused: 1\n" {
		t.Errorf("in all: %s", got)
	}
	for encoding, body := range map[string]string{"gzip": "no gzip", "zstd": "no zstd at all", "br": "x"} {
		if status, shown := receive(t, r, encoding, []byte(body)); status != http.StatusBadRequest || !strings.Contains(shown, "answered 400: ") {
			t.Errorf("%s: answered %d, showed %s", encoding, status, shown)
		}
	}
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered %d", answer.Code)
	}
	for _, bad := range []*receiver{{secret: "short", status: 503}, {failRate: 1.1, status: 503}, {failRate: -1, status: 503}, {status: 200}, {status: 503, lines: -1}} {
		if bad.check() == nil {
			t.Errorf("status %d, rate %v, lines %d and secret %q are let pass", bad.status, bad.failRate, bad.lines, bad.secret)
		}
	}
}

// Whoever knows the receiver's address may send it any bytes: it counts all lines that it decompresses, and puts
// no control characters on the terminal.
func FuzzBatchText(f *testing.F) {
	f.Add("", []byte("a\nb\n\x1b[2Jc"), 1)
	f.Add("gzip", []byte("\x1f\x8b"), 0)
	f.Add("zstd", []byte("{}\n\n"), 5)
	f.Fuzz(func(t *testing.T, encoding string, text []byte, lines int) {
		_ = (&batchText{lines: lines}).read(encoding, text) // as it came: no more than no panic
		if encoding != "gzip" && encoding != "zstd" {
			encoding = ""
		}
		lines = int(uint(lines) % 100) // #nosec G115 -- any number will do
		b := batchText{lines: lines}
		if err := b.read(encoding, compressed(t, encoding, string(text))); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		count := bytes.Count(text, []byte("\n"))
		if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
			count++
		}
		want := 0
		if lines > 0 {
			want = max(0, count-lines)
		}
		if b.size != int64(len(text)) || b.left != want {
			t.Fatalf("%q: %d bytes and %d lines left of %d, which are %d bytes and %d", text, b.size, b.left, count, len(text), want)
		}
		if strings.ContainsFunc(b.shown.String(), func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }) {
			t.Fatalf("%q is shown as %q", text, b.shown.String())
		}
	})
}

// Whoever finds the port taken is told by which flag to give another.
func TestReceiveOnAPortThatIsTaken(t *testing.T) {
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	err := new(receiver).run(t.Context(), taken.Listener.Addr().String())
	if err == nil || !strings.Contains(err.Error(), taken.Listener.Addr().String()) || !strings.Contains(err.Error(), "give another address with --addr") {
		t.Errorf("got %v, want the address and the flag", err)
	}
}

// They ended with 1, as if the port were in use.
func TestReceiverRefusesAddresses(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		root := &cobra.Command{Use: "tidegate", SilenceUsage: true, SilenceErrors: true}
		root.AddCommand(receiveCommand())
		marked := false // as one to mend on the command line
		root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { marked = true; return err })
		root.SetArgs([]string{"receive", "--addr", addr})
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !marked {
			t.Errorf("%q: error %v, marked %t", addr, err, marked)
		}
	}
	f("9800", `--addr is "9800": it must be host:port`)
	f("127.0.0.1:98000", "a port is from 0 to 65535")
}
