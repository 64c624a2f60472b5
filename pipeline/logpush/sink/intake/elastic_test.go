package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestElasticRequest(t *testing.T) {
	r := receive(t)
	conf := "elastic://u:p@" + r.Listener.Addr().String() + "/logs-tidegate/?insecure=true&pipeline=p"
	o := sinktest.Items("a", `{"Outcome":"ok"}`+"\n{}\n"+`{"@timestamp":1}`+"\ntext\n")
	o.Items[0].Text = []byte("{\n \"Outcome\": \"ok\"\n}")
	if err := open(t, conf, loopback).Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	q, body := r.only(t)
	if got, want := q.URL.String(), "/logs-tidegate/_bulk?pipeline=p&filter_path=errors,items.*.status,items.*.error.reason"; got != want {
		t.Errorf("the URL is %s, want %s", got, want)
	}
	if user, password, _ := q.BasicAuth(); user != "u" || password != "p" || q.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("the headers are %v", q.Header)
	}
	want := `{"create":{"_id":"7-0-a-100"}}
{"@timestamp":"2026-10-09T23:59:59.000Z","Outcome":"ok"}
{"create":{"_id":"7-0-a-101"}}
{"@timestamp":"2026-10-09T23:59:59.001Z"}
{"create":{"_id":"7-0-a-102"}}
{"@timestamp":1}
{"create":{"_id":"7-0-a-103"}}
{"@timestamp":"2026-10-09T23:59:59.003Z","message":"text"}
`
	if got := string(unzip(t, body)); got != want {
		t.Errorf("the body is\n%s, want\n%s", got, want)
	}
}

// An event whose console call logged an object with a time of its own went without one, which
// data streams refuse: it became a dead letter.
func TestElasticDocumentsHaveATimeWhateverWasLogged(t *testing.T) {
	item := logpush.Item{Text: []byte(`{"Logs":[{"Message":[{"@timestamp":"1970"}]}]}` + "\n"), Time: time.UnixMilli(1_700_000_000_001)}
	const want = `{"@timestamp":"2023-11-14T22:13:20.001Z","Logs":[{"Message":[{"@timestamp":"1970"}]}]}`
	if got := string(appendDocument(nil, &item)); got != want {
		t.Errorf("the document is %s, want %s", got, want)
	}
}

func TestElasticAnswersForEachRecord(t *testing.T) {
	f := func(answer string, want *logpush.UploadError) {
		t.Helper()
		r := receive(t)
		r.answer = func(w http.ResponseWriter) { _, _ = io.WriteString(w, answer) }
		err := openService(t, "elastic", r.Listener.Addr().String(), loopback).Put(t.Context(), sinktest.Items("a", "a\nb\nc\n"))
		if want == nil {
			if err != nil {
				t.Errorf("the answer %s gave %v", answer, err)
			}
			return
		}
		if e := uploadError(t, err); !reflect.DeepEqual(e, want) {
			t.Errorf("the answer %s gave %+v, want %+v", answer, e, want)
		}
	}
	const created, conflict = `{"create":{"status":201}}`, `{"create":{"status":409,"error":{"reason":"document already exists"}}}`
	failed := func(status int) string {
		return fmt.Sprintf(`{"create":{"status":%d,"error":{"reason":"because"}}}`, status)
	}
	f(bulkAnswer(created, created, created), nil)
	f(bulkAnswer(conflict, created, conflict), nil) // a repeat
	f(bulkAnswer(created, failed(400), failed(400)), &logpush.UploadError{
		Status: 400, Text: "2 of 3 records were refused: because", Permanent: true, Records: []int{1, 2}})
	f(bulkAnswer(failed(400), failed(429), created), &logpush.UploadError{Status: 429, Text: "because"})
	f(bulkAnswer(failed(503), created, created), &logpush.UploadError{Status: 503, Text: "because"})
	f(bulkAnswer(failed(403), failed(403), failed(403)), &logpush.UploadError{Status: 403, Text: "because", Permanent: true})
	f(bulkAnswer(failed(404), failed(404), failed(404)), &logpush.UploadError{Status: 404, Text: "because", Permanent: true})
	f(bulkAnswer(created), &logpush.UploadError{Text: "the answer is not one of the bulk API: " + bulkAnswer(created)})
	f("", &logpush.UploadError{Text: "the answer is not one of the bulk API: "})
	f("{}", &logpush.UploadError{Text: "the answer is not one of the bulk API: {}"})
}

// Items were counted once all of them had been read: a server could answer a batch with
// five million empty ones, which took a gigabyte of memory.
func TestElasticAnswersAreCountedAsTheyAreRead(t *testing.T) {
	answer := []byte(bulkAnswer(strings.TrimSuffix(strings.Repeat("{},", 1<<20), ",")))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := bulkError(answer, 10)
	runtime.ReadMemStats(&after)
	if e := uploadError(t, err); !strings.HasPrefix(e.Text, "the answer is not one of the bulk API: ") || e.Permanent {
		t.Errorf("the error is %+v", e)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(answer))/10 {
		t.Errorf("%d bytes were allocated for an answer of %d", used, len(answer))
	}
}

// FuzzBulkError: whatever a server answers, a batch is taken or its error names records
// that are in it; and an answer has as many items as were sent.
func FuzzBulkError(f *testing.F) {
	for _, answer := range []string{bulkAnswer(`{"create":{"status":201}}`, `{"create":{"status":400,"error":{"reason":"because"}}}`), `{}`, `{"errors":true,"items":null}`,
		`{"errors":false,"items":[{}],"items":[{"create":{"status":409}},{"create":null}]}`, `{"errors":false,"items":{"create":1}}`, `{"errors":false,"items":[`} {
		f.Add([]byte(answer), uint8(2), uint16(0))
	}
	f.Add([]byte(bulkAnswer(`{}`)), uint8(2), uint16(5000))
	f.Fuzz(func(t *testing.T, answer []byte, sent uint8, more uint16) {
		answer = bytes.Replace(answer, []byte(`"items":[`), []byte(`"items":[`+strings.Repeat("{},", int(more))), 1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := bulkError(answer, int(sent))
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > uint64(20*len(answer))+1<<20 {
			t.Errorf("%d bytes were allocated for an answer of %d", used, len(answer))
		}
		if err == nil {
			var bulk struct{ Items []json.RawMessage }
			if json.Unmarshal(answer, &bulk) != nil || len(bulk.Items) != int(sent) {
				t.Fatalf("%d items were taken for %d", len(bulk.Items), sent)
			}
			return
		}
		e := uploadError(t, err)
		for i, at := range e.Records {
			if at < 0 || at >= int(sent) || i > 0 && at <= e.Records[i-1] {
				t.Fatalf("of %d records %v are blamed", sent, e.Records)
			}
		}
	})
}

// textsOfElastic returns documents without the time that was added, or their messages.
func textsOfElastic(t *testing.T, body []byte) []byte {
	t.Helper()
	added := regexp.MustCompile(`"@timestamp":"[^"]*",?`)
	var texts [][]byte
	for i, line := range bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) {
		if i%2 == 0 {
			continue // what to do with the next one
		}
		var document struct{ Message *string }
		decode(t, line, &document)
		line = added.ReplaceAll(line, nil)
		if document.Message != nil {
			line = []byte(*document.Message)
		}
		texts = append(texts, line)
	}
	return lines(texts)
}

func bulkAnswer(items ...string) string {
	return `{"errors":false,"items":[` + strings.Join(items, ",") + `]}`
}

// A document is one line, whatever the record is.
func FuzzAppendDocument(f *testing.F) {
	f.Add(`{"Outcome":"ok"}`)
	f.Add("{\r\n\t}")
	f.Add("{} \n")
	f.Add("a,b\r\n")
	f.Add(`{"@timestamp":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		item := logpush.Item{Text: []byte(text), Time: time.Unix(0, 0)}
		document := appendDocument(nil, &item)
		if !isObject(document) || bytes.ContainsRune(document, '\n') {
			t.Fatalf("%q became %q", text, document)
		}
		if array := append(appendIBM([]byte{'['}, &item), ']'); !json.Valid(array) {
			t.Fatalf("%q became %q", text, array)
		}
	})
}
