package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tidegate/internal/signature"
)

const (
	// receiveBodyMax of a request, as transferred, and receiveTextMax decompressed. A
	// batch has up to 100 MB uncompressed.
	receiveBodyMax = 128 << 20
	receiveTextMax = 256 << 20
	// receiveLineMax of a line are shown.
	receiveLineMax = 8 << 10
	// receiveTolerance of a signature's time.
	receiveTolerance = 5 * time.Minute
	// receiveSeenMax bounds the ids that are remembered.
	receiveSeenMax = 100_000
)

// receiver shows the requests that it gets.
type receiver struct {
	out      io.Writer
	secret   string
	failRate float64
	status   int
	lines    int // 0: all
	quiet    bool
	now      func() time.Time

	mu    sync.Mutex // of what follows, and of out
	seen  map[string]seen
	total struct{ taken, refused, repeats, records int }
}

// seen is what came of a batch so far.
type seen struct {
	tries int
	taken bool
}

// ServeHTTP answers after the request is shown: what is taken can be read.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost && req.Method != http.MethodPut {
		http.Error(w, "send batches with POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, receiveBodyMax))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the body cannot be read: "+err.Error(), status)
		return
	}
	var text batchText
	text.lines, text.quiet = r.lines, r.quiet
	err = text.read(req.Header.Get("Content-Encoding"), body)
	status := http.StatusOK
	switch {
	case err != nil:
		status = http.StatusBadRequest
	case req.Header.Get("Tidegate-Batch-Id") != "" && rand.Float64() < r.failRate: // #nosec G404 -- a sample, not a secret
		status = r.status
	}
	if shown := r.show(req, body, &text, status, err); shown != nil {
		http.Error(w, "the receiver cannot show it", http.StatusInternalServerError)
		return
	}
	if status != http.StatusOK {
		http.Error(w, cmp.Or(errorText(err), "refused, as --fail-rate says"), status)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// show writes the line about a request and its body.
func (r *receiver) show(req *http.Request, body []byte, text *batchText, status int, bad error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	get := func(name, missing string) string { return cmp.Or(oneLine(req.Header.Get(name)), missing) }
	id := req.Header.Get("Tidegate-Batch-Id")
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s ", r.now().Format(time.RFC3339))
	if id == "" {
		fmt.Fprint(&line, "no batch")
	} else {
		fmt.Fprintf(&line, "batch %s of job %s", oneLine(id), get("Tidegate-Job-Id", "?"))
	}
	records := get("Tidegate-Records", "?") + " records"
	if records == "1 records" {
		records = counted(1, "record")
	}
	fmt.Fprintf(&line, ", %s, %s (%d %s), %s, signature %s%s", records, counted(text.size, "byte"), len(body),
		get("Content-Encoding", "uncompressed"), get("Content-Type", "no content type"), r.signature(req, body), r.note(id, status == http.StatusOK))
	if status != http.StatusOK {
		fmt.Fprintf(&line, ", answered %d", status)
	}
	if bad != nil {
		fmt.Fprintf(&line, ": %s", oneLine(bad.Error()))
	}
	line.WriteByte('\n')
	line.Write(text.shown.Bytes())
	if text.left > 0 {
		fmt.Fprintf(&line, "... %d more lines\n", text.left)
	}
	if status == http.StatusOK && id != "" {
		var n int
		_, _ = fmt.Sscan(req.Header.Get("Tidegate-Records"), &n) // 0 where there is none
		r.total.records += n
	}
	_, err := r.out.Write(line.Bytes())
	return err
}

func (r *receiver) signature(req *http.Request, body []byte) string {
	header := req.Header.Get(signature.Header)
	switch {
	case header == "":
		return "none"
	case r.secret == "":
		return "not checked"
	}
	if err := signature.Verify(r.secret, header, bytes.NewReader(body), r.now(), receiveTolerance); err != nil {
		return "bad (" + err.Error() + ")"
	}
	return "ok"
}

// note remembers a batch, and says what there is to say about its earlier tries.
func (r *receiver) note(id string, taken bool) (remark string) {
	if id == "" {
		return ""
	}
	s := r.seen[id]
	s.tries++
	switch {
	case s.taken:
		remark = ", a repeat of what was taken"
		r.total.repeats++
	case s.tries > 1:
		remark = fmt.Sprintf(", try %d", s.tries)
	}
	if taken {
		r.total.taken++
	} else {
		r.total.refused++
	}
	s.taken = s.taken || taken
	if len(r.seen) >= receiveSeenMax {
		clear(r.seen)
	}
	r.seen[id] = s
	return remark
}

func (r *receiver) totals() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("batches taken: %d, with %s, %d of them repeats; refused: %d\n", r.total.taken, counted(r.total.records, "record"), r.total.repeats, r.total.refused)
}

// batchText is a decompressed body, of which the first lines are kept.
type batchText struct {
	lines int
	quiet bool

	size  int64
	shown bytes.Buffer
	left  int // lines that are not shown
}

// read decompresses a body and keeps what is to be shown.
func (b *batchText) read(encoding string, body []byte) error {
	var text io.Reader = bytes.NewReader(body)
	switch encoding {
	case "", "identity":
	case "gzip":
		zip, err := gzip.NewReader(text)
		if err != nil {
			return fmt.Errorf("the body is not gzip: %w", err)
		}
		text = zip
	case "zstd":
		zip, err := zstd.NewReader(text, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(receiveTextMax))
		if err != nil {
			return fmt.Errorf("the body is not zstd: %w", err)
		}
		defer zip.Close()
		text = zip
	default:
		return fmt.Errorf("the Content-Encoding %q is unknown here: gzip and zstd are", encoding)
	}
	in := bufio.NewReaderSize(io.LimitReader(text, receiveTextMax+1), receiveLineMax)
	for n, start := 0, true; ; {
		piece, err := in.ReadSlice('\n')
		b.size += int64(len(piece))
		if b.size > receiveTextMax {
			return fmt.Errorf("the body has more than %d bytes", receiveTextMax)
		}
		if start && len(piece) > 0 {
			b.line(n, string(piece), err)
			n++
		}
		start = err == nil
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return fmt.Errorf("the body cannot be decompressed: %w", err)
		}
	}
}

// line keeps the start of the line with number n, if it is to be shown.
func (b *batchText) line(n int, text string, end error) {
	if b.quiet {
		return
	}
	if b.lines > 0 && n >= b.lines {
		b.left++
		return
	}
	// Other people's text must not steer a terminal.
	b.shown.WriteString(strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\t' {
			return ' '
		}
		return c
	}, strings.TrimSuffix(text, "\n")))
	if errors.Is(end, bufio.ErrBufferFull) {
		b.shown.WriteString("...")
	}
	b.shown.WriteByte('\n')
}
