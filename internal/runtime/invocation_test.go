package runtime

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"tidegate/schema"
)

func TestDecodeEventTypes(t *testing.T) {
	f := func(event, model, wantType, wantRay, wantEvent string) {
		t.Helper()
		line := `{"event":` + event + `,"eventTimestamp":1795711235362,"outcome":"ok","executionModel":"` + model + `"}`
		inv, err := decodeInvocation([]byte(line))
		if err != nil {
			t.Errorf("%s: %v", event, err)
			return
		}
		if inv.EventType != wantType || inv.RayID != wantRay || string(inv.Event) != wantEvent || inv.TimestampMs != 1795711235362 {
			t.Errorf("%s: got %s %q %s, want %s %q %s", event, inv.EventType, inv.RayID, inv.Event, wantType, wantRay, wantEvent)
		}
	}
	const fetch = `{"request":{"url":"https://a/?q=\"","method":"PUT","ray":"abc"},"response":{"status":201}}`
	f(fetch, "stateless", "fetch", "abc", `{"RayID":"","Request":{"URL":"https://a/?q=\"","Method":"PUT"},"Response":{"Status":201}}`)
	// An object gets the headers of the request that it was called with.
	f(fetch, "durableObject", "fetch", "", `{"RayID":"","Request":{"URL":"https://a/?q=\"","Method":"PUT"},"Response":{"Status":201}}`)
	f(`{"request":{"url":"https://a/","method":"GET"}}`, "stateless", "fetch", "", `{"RayID":"","Request":{"URL":"https://a/","Method":"GET"}}`)
	f(`{"cron":"* * * * *","scheduledTime":1234}`, "stateless", "scheduled", "", `{"Cron":"* * * * *","ScheduledTimeMs":1234}`)
	f(`{"scheduledTime":"2026-11-01T00:00:00.250Z"}`, "durableObject", "alarm", "", `{"ScheduledTimeMs":1793491200250}`)
	f(`{"queue":"q","batchSize":3}`, "stateless", "queue", "", `{"Queue":"q","BatchSize":3}`)
	f(`{"mailFrom":"a","rcptTo":"b","rawSize":9}`, "stateless", "email", "", `{"MailFrom":"a","RcptTo":"b","RawSize":9}`)
	f(`{"consumedEvents":[{"scriptName":"x"},{}]}`, "stateless", "tail", "", `{"ConsumedEvents":[{"ScriptName":"x"},{"ScriptName":null}]}`)
	f(`{"rpcMethod":"add"}`, "stateless", "worker_rpc", "", `{"rpcMethod":"add"}`)
	f(`{"webSocket":{"webSocketEventType":"message"}}`, "durableObject", "hibernatable_web_socket", "", `{}`)
}

func TestDecodeRefuses(t *testing.T) {
	f := func(line string) {
		t.Helper()
		if inv, err := decodeInvocation([]byte(line)); err == nil {
			t.Errorf("%.100s: got %+v", line, inv)
		}
	}
	const event = `"event":{"rpcMethod":"x"}`
	f(``)
	f(`null`)
	f(`[]`)
	f(`{` + event + `,"eventTimestamp":1}`)
	f(`{` + event + `,"outcome":"ok"}`)
	f(`{` + event + `,"outcome":"ok","eventTimestamp":1e300}`)
	f(`{"outcome":"ok","eventTimestamp":1}`)
	f(`{"event":null,"outcome":"ok","eventTimestamp":1}`)
	f(`{"event":{"scheduledTime":"soon"},"outcome":"ok","eventTimestamp":1}`)
	f(`{"event":{"scheduledTime":1e300},"outcome":"ok","eventTimestamp":1}`)
	f(`{` + event + `,"outcome":"` + strings.Repeat("x", itemNameMax+1) + `","eventTimestamp":1}`)
	f(`{` + event + `,"outcome":"ok","eventTimestamp":1,"logs":[{}` + strings.Repeat(",{}", itemEntriesMax) + `]}`)
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

// The order of spending and the markers of reference/logpush.md, section 5.6.
func TestTruncation(t *testing.T) {
	const budgetOf20 = 20
	f := func(exceptions []traceException, logs []traceLog, wantExceptions []schema.Exception, wantLogs []schema.Log) {
		t.Helper()
		b := budget{left: budgetOf20}
		gotExceptions, gotLogs := b.exceptions(exceptions), b.logs(logs)
		if !reflect.DeepEqual(gotExceptions, wantExceptions) {
			t.Errorf("got %+v\nwant %+v", gotExceptions, wantExceptions)
		}
		if !reflect.DeepEqual(gotLogs, wantLogs) {
			t.Errorf("got %+v\nwant %+v", gotLogs, wantLogs)
		}
	}
	ex := func(name, message string) traceException {
		return traceException{Name: name, Message: raw(`"` + message + `"`)}
	}
	log := func(args string) traceLog { return traceLog{Level: "log", Message: raw(args)} }
	want := func(args ...string) schema.Log {
		l := schema.Log{Level: "log", Message: []json.RawMessage{}}
		for _, a := range args {
			l.Message = append(l.Message, raw(a))
		}
		return l
	}
	const exMark, logMark = "<<<Logpush: exception messages truncated>>>", "<<<Logpush: messages truncated>>>"

	f(nil, nil, []schema.Exception{}, []schema.Log{})
	f([]traceException{{Name: "E", Message: raw(`"m"`), Timestamp: 5, Stack: "at x"}}, []traceLog{log(`["a",{"b":1},null]`), log(`[]`), log(`"bare"`)},
		[]schema.Exception{{Name: "E", Message: "m", TimestampMs: 5, Stack: "at x"}}, []schema.Log{want(`"a"`, `{"b":1}`, `null`), want(), want(`"bare"`)})
	// All names come before any message: 10 + 10 leave nothing for messages.
	f([]traceException{ex("0123456789", "a"), ex("0123456789", "b")}, []traceLog{log(`["x"]`), log(`["y"]`)},
		[]schema.Exception{{Name: "0123456789", Message: exMark}}, []schema.Log{want(`"` + logMark + `"`)})
	// Messages come before logs. Characters are counted, not bytes.
	f([]traceException{ex("E", "ééééé"), ex("F", "ggggg")}, []traceLog{log(`["12345678"]`), log(`["x"]`)},
		[]schema.Exception{{Name: "E", Message: "ééééé"}, {Name: "F", Message: "ggggg"}}, []schema.Log{want(`"12345678"`), want(`"` + logMark + `"`)})
	f([]traceException{ex("E", "0123456789"), ex("F", "0123456789"), ex("G", "x")}, nil,
		[]schema.Exception{{Name: "E", Message: "0123456789"}, {Name: "F", Message: "0123456" + exMark}}, []schema.Log{})
	// A name that does not fit is cut like a message.
	f([]traceException{ex("0123456789", "a"), ex("0123456789x", "b")}, nil,
		[]schema.Exception{{Name: "0123456789", Message: exMark}}, []schema.Log{})
	// Within one call, the argument that does not fit is the last. What is cut is text.
	f(nil, []traceLog{log(`["0123456789",{"a":"0123456789"},"x"]`), log(`["y"]`)},
		[]schema.Exception{}, []schema.Log{want(`"0123456789"`, `"{\"a\":\"0123`+logMark+`"`)})
	// Exactly the budget is whole.
	f(nil, []traceLog{log(`["0123456789","0123456789"]`)}, []schema.Exception{}, []schema.Log{want(`"0123456789"`, `"0123456789"`)})
}

// Empty arguments cost no characters, so an event could have as many as a line has room
// for, each of which redaction compares with what it found.
func TestArgumentsAreBounded(t *testing.T) {
	const half = itemEntriesMax/2 + 1
	log := `{"level":"log","message":["x"` + strings.Repeat(`,""`, half-1) + `],"timestamp":1}`
	inv, err := decodeInvocation([]byte(`{"event":{"rpcMethod":"x"},"eventTimestamp":1,"outcome":"ok","logs":[` + log + "," + log + "," + log + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Logs) != 2 || len(inv.Logs[0].Message) != half || len(inv.Logs[1].Message) != half-1 {
		t.Fatalf("%d logs are left, the first of %d arguments", len(inv.Logs), len(inv.Logs[0].Message))
	}
	if last := inv.Logs[1].Message[half-2]; string(last) != `"`+logTruncated+`"` {
		t.Errorf("the last argument is %s", last)
	}
}

// Whatever comes, there is an error or an invocation that the pipeline can carry:
// known type, valid JSON, text and arguments within their budgets.
func FuzzDecodeInvocation(f *testing.F) {
	f.Add([]byte(`{"event":{"request":{"url":"https://a/","method":"GET","ray":"r"},"response":{"status":200}},"eventTimestamp":1,"outcome":"ok","executionModel":"stateless","exceptions":[{"name":"E","message":"m","stack":"s","timestamp":1}],"logs":[{"level":"log","message":["a",{"b":1}],"timestamp":1}]}`), uint16(itemEntriesMax))
	f.Add([]byte(`{"event":{"scheduledTime":"2026-11-01T00:00:00Z"},"eventTimestamp":1,"outcome":"ok","logs":[{"message":"x"},{"message":null},{}]}`), uint16(0))
	f.Add([]byte(`{"event":{"webSocket":{}},"eventTimestamp":1,"outcome":"ok","exceptions":[{"message":{"a":[1]}}]}`), uint16(0))
	f.Fuzz(func(t *testing.T, line []byte, more uint16) {
		line = bytes.Replace(line, []byte(`"message":["`), []byte(`"message":[`+strings.Repeat(`"",`, int(more))+`"`), 1)
		inv, err := decodeInvocation(bytes.Clone(line))
		if err != nil {
			return
		}
		if inv.EventType == "" || inv.Outcome == "" || inv.TimestampMs < 0 || !json.Valid(inv.Event) {
			t.Fatalf("%+v with the event %s", inv, inv.Event)
		}
		chars, arguments := 0, 0
		for _, e := range inv.Exceptions {
			chars += utf8.RuneCountInString(e.Name) + utf8.RuneCountInString(strings.TrimSuffix(e.Message, exceptionTruncated))
		}
		for _, l := range inv.Logs {
			arguments += len(l.Message)
			for _, arg := range l.Message {
				if !json.Valid(arg) {
					t.Fatalf("the argument %q is not JSON", arg)
				}
				chars += utf8.RuneCountInString(strings.TrimSuffix(plainText(arg), logTruncated))
			}
		}
		if chars > textBudget || arguments > itemEntriesMax+1 {
			t.Fatalf("%d characters of text in %d arguments", chars, arguments)
		}
		event := schema.TraceEvent{ScriptName: "s", EventTimestampMs: 1, Outcome: inv.Outcome, EventType: inv.EventType, Event: inv.Event, Exceptions: inv.Exceptions, Logs: inv.Logs}
		if err := schema.DecodeEvent(event.AppendJSON(nil), &schema.TraceEvent{}); err != nil {
			t.Fatal(err)
		}
	})
}

// postSink sends one body to a sink and returns its status, what was delivered and
// what was dropped.
func postSink(body io.Reader, header http.Header) (int, int, map[string]int) {
	delivered, dropped := 0, map[string]int{}
	s := &sink{
		deliver: func(string, schema.Invocation) { delivered++ },
		dropped: func(n int, reason string) { dropped[reason] += n },
		log:     slog.New(slog.DiscardHandler),
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.Header = header
	s.ServeHTTP(w, r)
	return w.Code, delivered, dropped
}

func TestSinkBounds(t *testing.T) {
	const item = `{"event":{"rpcMethod":"x"},"eventTimestamp":1,"outcome":"ok"}` + "\n"
	f := func(body string, header http.Header, wantStatus, wantDelivered int, wantDropped map[string]int) {
		t.Helper()
		status, delivered, dropped := postSink(strings.NewReader(body), header)
		if status != wantStatus || delivered != wantDelivered || !reflect.DeepEqual(dropped, wantDropped) {
			t.Errorf("%.80q: got %d, %d, %v; want %d, %d, %v", body, status, delivered, dropped, wantStatus, wantDelivered, wantDropped)
		}
	}
	none := map[string]int{}
	long := `{"event":{"rpcMethod":"x"},"eventTimestamp":1,"outcome":"ok","logs":[{"message":["` + strings.Repeat("x", 200_000) + `"]}]}` + "\n"
	f("", nil, 204, 0, none)
	f(item+item, nil, 204, 2, none)
	f(long+item, nil, 204, 2, none)
	f(item, http.Header{"Tidegate-Dropped": {"7"}}, 204, 1, map[string]int{dropQueue: 7})
	f(item+"{}\n"+item, nil, 204, 2, map[string]int{dropUnreadable: 1})
	f(item+`{"event":`, nil, 400, 1, map[string]int{dropCut: 1})
	f(strings.Repeat(item, sinkItemsMax)+item, nil, 400, sinkItemsMax, map[string]int{dropTooMany: 1})
	f(item+strings.Repeat("x", sinkLineMax+100_000), nil, 400, 1, map[string]int{dropTooMany: 1})
	f(strings.Repeat(strings.Repeat(" ", 1<<20)+item, 9), nil, 400, 7, map[string]int{dropTooMany: 1})
}

// A batch is cut into the lines that it has, however its bytes come, and its last line counts only with its end.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte("a\nb\n"), 1, 16)
	f.Add([]byte("\n\na"), 2, 16)
	f.Add(bytes.Repeat([]byte("long "), 40), 7, 16)
	f.Add(append(bytes.Repeat([]byte("x"), 16), '\n', '\n'), 16, 16)
	f.Fuzz(func(t *testing.T, text []byte, piece, size int) {
		piece, size = 1+int(uint(piece)%64), 16+int(uint(size)%64) // #nosec G115 -- any will do
		r := bufio.NewReaderSize(&pieces{text, piece}, size)
		for rest := text; ; {
			line, err := readLine(r)
			want, after, whole := bytes.Cut(rest, []byte("\n"))
			switch {
			case whole && (err != nil || !bytes.Equal(line, want)):
				t.Fatalf("%q has the line %q, which was read as %q, %v", text, want, line, err)
			case !whole && len(rest) > 0 && !errors.Is(err, io.ErrUnexpectedEOF), !whole && len(rest) == 0 && !errors.Is(err, io.EOF):
				t.Fatalf("%q ends with %q, which was read as %q, %v", text, rest, line, err)
			case !whole:
				return
			}
			rest = after
		}
	})
}

// pieces are the bytes of a text, at most so many at a time.
type pieces struct {
	rest []byte
	most int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.most)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
