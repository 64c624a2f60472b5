package runtime

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	logLineMax      = 2 << 10 // bytes of a line; the rest is cut
	logLinesPerSec  = 50
	logTailBytesMax = 16 << 10 // kept to explain why the process ended
)

// logRelay passes on what a process writes to standard error, at debug and within
// bounds: a Worker can write there too.
type logRelay struct {
	log *slog.Logger

	mu      sync.Mutex
	rest    []byte // an unfinished line, up to its bound
	cut     bool   // the unfinished line was longer
	last    []byte // the last of the text, for tail
	window  time.Time
	lines   int // in this window
	dropped int // in this window
}

func newLogRelay(log *slog.Logger) *logRelay { return &logRelay{log: log} }

func (l *logRelay) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = append(l.last, p[max(0, len(p)-logTailBytesMax):]...)
	if over := len(l.last) - logTailBytesMax; over > 0 {
		l.last = append(l.last[:0], l.last[over:]...)
	}
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		room := logLineMax - len(l.rest)
		l.cut = l.cut || len(line) > room
		l.rest = append(l.rest, line[:min(len(line), room)]...)
		if ended {
			l.lineLocked()
		}
		rest = after
	}
	return len(p), nil
}

func (l *logRelay) lineLocked() {
	text := strings.ToValidUTF8(strings.TrimRight(string(l.rest), "\r"), "�")
	cut := l.cut
	l.rest, l.cut = l.rest[:0], false
	if now := time.Now(); now.Sub(l.window) >= time.Second {
		l.tellDroppedLocked()
		l.window, l.lines = now, 0
	}
	if text == "" {
		return
	}
	if l.lines++; l.lines > logLinesPerSec {
		l.dropped++
		return
	}
	l.log.Debug("workerd", "output", text, "cut", cut)
}

func (l *logRelay) tellDroppedLocked() {
	if l.dropped > 0 {
		l.log.Debug("workerd wrote more lines than are relayed", "dropped", l.dropped)
		l.dropped = 0
	}
}

// flush passes on what is left when the process has ended.
func (l *logRelay) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rest) > 0 {
		l.lineLocked()
	}
	l.tellDroppedLocked()
}

// tail returns the end of what was written.
func (l *logRelay) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.ToValidUTF8(string(l.last), "�")
}
