package clickhouse

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// variety is n events of shop, one a second from noon on, that differ in everything that
// a filter may name. Two share each millisecond; the rest of the row follows from the number.
func variety(n int) (*tables.Events, []schema.TraceEvent) {
	rows := make([]row, n)
	for i := range rows {
		r := served(time.Duration(i/2) * time.Second)
		r.version = []string{v1, v2}[i%2]
		r.outcome = []string{"ok", "ok", "ok", "canceled", "exception"}[i%5]
		r.status = []uint16{200, 404, 503, 0, 301, 599, 400}[i%7]
		r.decision = []string{"split", "override", "preview"}[i%3]
		rows[i] = r
	}
	b := blockOf(rows...)
	events := make([]schema.TraceEvent, n)
	for i := range rows {
		b.Method[i] = []string{"GET", "POST"}[i%11%2]
		b.URL[i] = fmt.Appendf(nil, "https://shop.example.com/Items/%d?q=100%%25_ü", i)
		b.RayID[i] = fmt.Appendf(nil, "%016x", i)
		response := ""
		if b.Status[i] > 0 {
			response = fmt.Sprintf(`,"Response":{"Status":%d}`, b.Status[i])
		}
		b.Event[i] = fmt.Appendf(nil, `{"RayID":"%s","Request":{"URL":"%s","Method":"%s"}%s}`, b.RayID[i], b.URL[i], b.Method[i], response)
		events[i] = schema.TraceEvent{EventType: "fetch", ScriptName: script, ScriptVersion: schema.ScriptVersion{ID: b.VersionID[i]}, Outcome: b.Outcome[i],
			Event: json.RawMessage(b.Event[i]), Gateway: schema.Gateway{Decision: b.Decision[i], RayID: string(b.RayID[i])}}
	}
	return b, events
}

func hourOf(f schema.EventFilter) schema.EventFilter {
	f.AccountID, f.Script, f.Since, f.Until = account, script, noon, noon.Add(time.Hour)
	return f
}

func rays(t *testing.T, list []schema.StoredEvent) (ids []string) {
	t.Helper()
	for _, e := range list {
		var event schema.TraceEvent
		if err := schema.DecodeEvent(e.Value, &event); err != nil {
			t.Fatal(err)
		}
		if at := time.UnixMilli(event.EventTimestampMs).UTC(); !at.Equal(e.Time) {
			t.Errorf("the event of %s stands at %s", at, e.Time)
		}
		ids = append(ids, event.Gateway.RayID)
	}
	return ids
}

// TestFilterOfStoredEvents: what a filter finds in the table is what it lets through of
// events that come by, whatever it names.
func TestFilterOfStoredEvents(t *testing.T) {
	db := migrated(t)
	b, events := variety(2 * 3 * 5 * 7 * 11)
	if err := db.InsertEvents(t.Context(), "variety", b); err != nil {
		t.Fatal(err)
	}
	foreign := served(0)
	foreign.account = "00000000000000000000000000000002"
	other := served(0)
	other.script = "blog"
	insert(t, db, "others", foreign, other)
	yes, no := true, false
	f := func(filter schema.EventFilter) {
		t.Helper()
		filter = hourOf(filter)
		var want []string
		for i := range events {
			if filter.Matches(&events[i]) {
				want = append(want, events[i].Gateway.RayID)
			}
		}
		slices.Reverse(want) // newest first
		list, err := db.Events(t.Context(), filter, schema.EventPosition{}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if got := rays(t, list); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%+v: %d events, want %d: %.200v, %.200v", filter, len(got), len(want), got, want)
		}
	}
	f(schema.EventFilter{})
	f(schema.EventFilter{Versions: []string{v2}})
	f(schema.EventFilter{Outcomes: []string{"canceled", "exception"}})
	f(schema.EventFilter{Decisions: []string{"override"}, Methods: []string{"POST"}})
	f(schema.EventFilter{Statuses: []schema.StatusRange{{Low: 400, High: 499}, {Low: 0, High: 0}}})
	f(schema.EventFilter{Failed: &yes})
	f(schema.EventFilter{Failed: &no, Statuses: []schema.StatusRange{{Low: 200, High: 299}}})
	f(schema.EventFilter{Text: "items/17"})
	f(schema.EventFilter{Text: "100%25_Ü"})
	f(schema.EventFilter{Text: "%25_"}) // no pattern
	f(schema.EventFilter{Versions: []string{v1, v2}, Outcomes: []string{"ok"}, Failed: &yes, Text: "shop"})

	list, err := db.Events(t.Context(), hourOf(schema.EventFilter{Text: "' OR 1 = 1 --"}), schema.EventPosition{}, 10)
	if err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v, want an empty list", list, err)
	}
}

func TestPagesOfEvents(t *testing.T) {
	db := migrated(t)
	b, events := variety(100)
	if err := db.InsertEvents(t.Context(), "variety", b); err != nil {
		t.Fatal(err)
	}
	filter := hourOf(schema.EventFilter{Outcomes: []string{"ok"}})
	var got []string
	var after schema.EventPosition
	for {
		page, err := db.Events(t.Context(), filter, after, 7) // ends between two events of one time, too
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got = append(got, rays(t, page)...)
		if after, err = schema.ParseEventPosition(page[len(page)-1].String()); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range events {
		if filter.Matches(&events[i]) {
			want = append(want, events[i].Gateway.RayID)
		}
	}
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Errorf("pages have\n%v, want\n%v", got, want)
	}
}

// A Worker may log a quarter of a megabyte a request: a page of 500 such events was 125 MB, several
// times that while it was made, and six may be asked for at once.
func TestPagesOfLargeEvents(t *testing.T) {
	db := migrated(t)
	const n, each = 40, 1 << 20
	var rows []row
	for range n {
		rows = append(rows, served(0))
	}
	b := blockOf(rows...)
	for i := range rows {
		b.Logs[i] = fmt.Appendf(nil, `[{"Level":"log","Message":[%q],"TimestampMs":1}]`, strings.Repeat("x", each))
	}
	if err := db.InsertEvents(t.Context(), "large", b); err != nil {
		t.Fatal(err)
	}
	var after schema.EventPosition
	var got []int64
	for len(got) < n {
		page, err := db.Events(t.Context(), hourOf(schema.EventFilter{}), after, 500)
		if err != nil {
			t.Fatal(err)
		}
		if most := schema.EventPageBytes/each + 1; len(page) == 0 || len(page) > most {
			t.Fatalf("a page has %d events of 1 MiB, want 1 to %d", len(page), most)
		}
		if full := schema.FullEventPage(page); !full && len(got)+len(page) < n {
			t.Fatalf("a page of %d events does not say that it ended early", len(page))
		}
		for _, e := range page {
			got = append(got, e.Offset)
		}
		after = page[len(page)-1].EventPosition
	}
	for i, offset := range got {
		if offset != int64(n-1-i) {
			t.Fatalf("the offsets are %v, want each once, newest first", got)
		}
	}
}

func TestEventsOfRay(t *testing.T) {
	db := migrated(t)
	b, _ := variety(1000)
	for i := range 3 {
		b.RayID[500+i] = []byte("00000000000001f4") // those of one request and what it called
	}
	if err := db.InsertEvents(t.Context(), "variety", b); err != nil {
		t.Fatal(err)
	}
	list, err := db.EventsOfRay(t.Context(), account, "00000000000001f4")
	if err != nil || len(list) != 3 || !list[0].Time.Equal(b.Time[500]) || list[2].Offset != 502 {
		t.Errorf("%v, %v", list, err)
	}
	for _, q := range [][2]string{{account, "ffffffffffffffff"}, {"00000000000000000000000000000002", "00000000000001f4"}} {
		if list, err := db.EventsOfRay(t.Context(), q[0], q[1]); err != nil || len(list) != 0 {
			t.Errorf("ray %s of account %s: %v, %v", q[1], q[0], list, err)
		}
	}
	plan := scalar(t, db, "SELECT arrayStringConcat(groupArray(explain), '\n') FROM (EXPLAIN indexes = 1 SELECT * FROM trace_events WHERE ray_id = '00000000000001f4')")
	for _, index := range []string{"ray_id_range", "ray_id_filter"} {
		if !strings.Contains(plan, index) {
			t.Errorf("a ray is not looked up in %s", index)
		}
	}
}

// TestNewestEventsEndTheRead: of a long range the end is read, and no more of it than
// holds as many events as are asked for. The engine once kept a threshold of the time
// instead, for which it went through all of the range.
func TestNewestEventsEndTheRead(t *testing.T) {
	db := migrated(t)
	b, _ := variety(100)
	if err := db.InsertEvents(t.Context(), "variety", b); err != nil {
		t.Fatal(err)
	}
	c := eventConditions(hourOf(schema.EventFilter{}))
	var plan string
	if err := db.conn.QueryRow(t.Context(), "SELECT arrayStringConcat(groupArray(explain), '\n') FROM (EXPLAIN indexes = 1 "+eventsQuery(c, newestFirst+" LIMIT 50")+")", c.args...).Scan(&plan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, "InReverseOrder") || strings.Contains(plan, "__topKFilter") {
		t.Errorf("the newest events are not read from the end:\n%s", plan)
	}
}

func thrown(name, message, stack string) string {
	e := schema.TraceEvent{Exceptions: []schema.Exception{{Name: name, Message: message, Stack: stack}}}
	text := string(e.AppendJSON(nil))
	_, text, _ = strings.Cut(text, `"Exceptions":`)
	text, _, _ = strings.Cut(text, `,"Logs"`)
	return text
}

func TestExceptions(t *testing.T) {
	db := migrated(t)
	const stack = "TypeError: x\n    at price (worker.js:10:5)\n    at fetch (worker.js:1:1)"
	var rows []row
	var lists [][]byte
	add := func(n int, version string, sampledOut uint64, exceptions string) {
		for range n {
			r := served(time.Duration(len(rows)) * time.Second)
			r.version, r.outcome, r.status, r.sampledOut = version, schema.OutcomeException, 500, sampledOut
			rows, lists = append(rows, r), append(lists, []byte(exceptions))
		}
	}
	add(3, v1, 0, thrown("TypeError", "cannot read item 17 of 1f0e8400-e29b-41d4-a716-446655440000", stack))
	add(2, v2, 4, thrown("TypeError", "cannot read item 4 of deadbeef01", strings.Replace(stack, ":10:5", ":99:1", 1)))
	add(1, v2, 0, thrown("TypeError", "cannot read item 4 of deadbeef01", strings.Replace(stack, "price", "cost", 1)))
	add(5, v1, 0, thrown("RangeError", "out of\nrange", ""))
	double := thrown("Error", "twice", stack)
	add(2, v2, 0, double[:len(double)-1]+","+double[1:])
	add(1, v2, 0, "[]")
	b := blockOf(rows...)
	copy(b.Exceptions, lists)
	for i := range b.RayID {
		b.RayID[i] = fmt.Appendf(nil, "%016x", i)
	}
	if err := db.InsertEvents(t.Context(), "thrown", b); err != nil {
		t.Fatal(err)
	}
	q := schema.ExceptionQuery{AccountID: account, Script: script, Since: noon, Until: noon.Add(time.Hour), Limit: 10}
	list, total, err := db.Exceptions(t.Context(), q)
	if err != nil || total != 4 || len(list) != 4 {
		t.Fatalf("%+v, %d, %v", list, total, err)
	}
	top := list[0]
	if top.Name != "TypeError" || top.Message != "cannot read item # of #" || top.Frame != "price (worker.js)" || top.Requests != 3+2*5 ||
		top.Versions[v1] != 3 || top.Versions[v2] != 10 || !top.FirstSeen.Equal(noon) || !top.LastSeen.Equal(noon.Add(4*time.Second)) || len(top.Fingerprint) != 16 {
		t.Errorf("the most frequent kind is %+v", top)
	}
	if !strings.Contains(string(top.Sample), `"RayID":"0000000000000004"`) {
		t.Errorf("its sample is %s, want its newest event", top.Sample)
	}
	if e := list[1]; e.Name != "RangeError" || e.Message != "out of range" || e.Frame != "" || e.Requests != 5 {
		t.Errorf("the second kind is %+v", e)
	}
	if e := list[2]; e.Name != "Error" || e.Requests != 2 {
		t.Errorf("what is thrown twice by one request is %+v", e)
	}

	q.NewIn, q.ComparedTo = v2, v1
	list, total, err = db.Exceptions(t.Context(), q)
	if err != nil || total != 2 || list[0].Message != "twice" || list[1].Frame != "cost (worker.js)" {
		t.Errorf("new are %+v, %d, %v", list, total, err)
	}
	// What the older version threw within a day before is not new, and what was longer ago is.
	for i, ago := range []time.Duration{24*time.Hour + time.Second, 24 * time.Hour} {
		r := served(-ago)
		r.outcome, r.status = schema.OutcomeException, 500
		before := blockOf(r)
		before.Exceptions[0] = lists[len(lists)-2]
		if err := db.InsertEvents(t.Context(), fmt.Sprint("before-", i), before); err != nil {
			t.Fatal(err)
		}
		list, total, err = db.Exceptions(t.Context(), q)
		if err != nil || total != 2-i || list[total-1].Frame != "cost (worker.js)" || list[0].Versions[v1] != 0 {
			t.Errorf("with one thrown %s before, new are %+v, %d, %v", ago, list, total, err)
		}
	}
	q.NewIn, q.ComparedTo, q.Versions, q.Limit = "", "", []string{v1}, 1
	list, total, err = db.Exceptions(t.Context(), q)
	if err != nil || total != 2 || len(list) != 1 || list[0].Name != "RangeError" {
		t.Errorf("of the first version: %+v, %d, %v", list, total, err)
	}
	q.Script = "blog"
	if list, total, err = db.Exceptions(t.Context(), q); err != nil || total != 0 || list == nil || len(list) != 0 {
		t.Errorf("of a script without any: %+v, %d, %v", list, total, err)
	}
}

// A name is the Worker's to choose and may have lines of its own. Its second line was shown as
// the message, and the message as a part of the frame.
func TestExceptionWithANameOfSeveralLines(t *testing.T) {
	db := migrated(t)
	r := served(0)
	r.outcome = schema.OutcomeException
	b := blockOf(r)
	b.Exceptions[0] = []byte(thrown("Two\nlines", "of\nthree", "Error\n    at price (worker.js:10:5)"))
	if err := db.InsertEvents(t.Context(), "lines", b); err != nil {
		t.Fatal(err)
	}
	list, _, err := db.Exceptions(t.Context(), schema.ExceptionQuery{AccountID: account, Script: script, Since: noon, Until: noon.Add(time.Hour), Limit: 10})
	if err != nil || len(list) != 1 || list[0].Name != "Two\nlines" || list[0].Message != "of three" || list[0].Frame != "price (worker.js)" {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestQuestionsThatAreTooMuch end with a sentence that says so.
func TestQuestionsThatAreTooMuch(t *testing.T) {
	db := migrated(t)
	ctx, cancel := bounded(t.Context())
	defer cancel()
	f := func(query, want string) {
		t.Helper()
		var n uint64
		err := tooMuch("count", db.conn.QueryRow(ctx, query).Scan(&n))
		if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
	f("SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 7 SETTINGS max_execution_time = 1", "took longer than")
	f("SELECT length(groupArray(number)) FROM numbers(1000000000)", "more memory than")
}
