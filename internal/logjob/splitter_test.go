package logjob

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tidegate/schema"
)

// A Splitter finds what Record.Split finds, whatever its example is.
func FuzzSplitter(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"Event":{"a":1,"b":[true]},"Logs":[],"Outcome":"ok"}`, `{"Event":{"a":12,"b":[false]},"Logs":[{"Level":"x"}],"Outcome":"o\"k"}`},
		{`{"Event":{"a":12},"Logs":[1,2],"Outcome":"ok"}`, `{"Event":{"a":1},"Logs":[],"Outcome":null}`},
		{`{"Event":{"a":{"b":[]}},"Outcome":"ok"}`, `{"Event":{"c":{"b":[]}},"Outcome":"exception"}`},
		{`{"WallTimeMs":1,"Outcome":"ok"}`, `{"WallTimeMs":1e,"Outcome":"ok"}`},
		{`{"WallTimeMs":1}`, `{"WallTimeMs":1,"Outcome":"ok"}`},
		{`{"WallTimeMs":1}`, `{"WallTimeMs":1}}`},
		{`{"WallTimeMs":1,"Logs":{}}`, `{"WallTimeMs":01,"Logs":{} }`},
		{`{"Outcome":"a","Outcome":"b"}`, `{"Outcome":"a","Outcome":[1 ]}`},
		{`{"Outcome":"\u0041"}`, `{"Outcome":"\u004"}`},
		{`{"a":1,"Logs":[]}`, `{"b":1,"Logs":[]}`},
		{`{}`, `{"Logs":[]}`}, {`{"Logs":[]}`, `{}`}, {`{"Logs":[]}`, ``}, {`{"Logs":[]}`, `{"Logs":`}, {`[]`, `{}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, example, text []byte) {
		var s Splitter
		for _, value := range [][]byte{example, text, example, text} {
			var got, want Record
			gotErr, wantErr := s.Split(&got, value), want.Split(value)
			if (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("of %q after %q: %v, want %v", value, example, gotErr, wantErr)
			}
			for i, field := range schema.Fields {
				if g, w := got.field(i), want.field(i); string(g) != string(w) || (g == nil) != (w == nil) {
					t.Fatalf("%s of %q after %q is %q, want %q", field.Name, value, example, g, w)
				}
			}
		}
	})
}

// The example changes as events do, also where most of them are another than it.
func TestSplitterFollowsEventsThatChange(t *testing.T) {
	var s Splitter
	var r Record
	plain := []byte(`{"Logs":[],"Outcome":"ok"}`)
	other := []byte(`{"Outcome":"ok","Logs":[]}`)
	for _, value := range [][]byte{plain, other} {
		for range learnEvery + 1 {
			if err := s.Split(&r, value); err != nil || string(r.Raw("Outcome")) != `"ok"` {
				t.Fatalf("%s: %v", value, err)
			}
		}
		if _, same := s.follow(&r, value); !same {
			t.Errorf("%s is not the example", value)
		}
	}
}

// Leaves that differed once are not compared again, and what they may not be is refused.
func TestSplitterKnowsWhatVaries(t *testing.T) {
	var s Splitter
	var r Record
	f := func(value string, hurried bool) {
		t.Helper()
		var got, want Record
		if ok := s.hurry(&got, []byte(value)); ok != hurried {
			t.Errorf("%s: hurried is %v", value, ok)
		}
		if err := want.Split([]byte(value)); hurried && (err != nil || string(got.Raw("Outcome")) != string(want.Raw("Outcome")) || string(got.Raw("WallTimeMs")) != string(want.Raw("WallTimeMs"))) {
			t.Errorf("%s: %s and %s, %v", value, got.Raw("Outcome"), got.Raw("WallTimeMs"), err)
		}
	}
	if err := s.Split(&r, []byte(`{"Logs":[],"Outcome":"ok","WallTimeMs":1}`)); err != nil {
		t.Fatal(err)
	}
	f(`{"Logs":[],"Outcome":"ok","WallTimeMs":1}`, true)
	f(`{"Logs":[],"Outcome":"ok","WallTimeMs":22}`, false)
	if err := s.Split(&r, []byte(`{"Logs":[],"Outcome":"canceled","WallTimeMs":22}`)); err != nil {
		t.Fatal(err)
	}
	f(`{"Logs":[],"Outcome":"o\"k","WallTimeMs":-3.5e7}`, true)
	f(`{"Logs":[],"Outcome":[1,{}],"WallTimeMs":null}`, true)
	f(`{"Logs":[],"Outcome":[1, 2],"WallTimeMs":null}`, false) // white space is to be removed
	f(`{"Logs":[],"Outcome":"ok","WallTimeMs":01}`, false)
	f(`{"Logs":[],"Outcome":"ok","WallTimeMs":1}}`, false)
	f(`{"Logs":[],"Outcome":"ok","WallTimeMs":1`, false)
	f(`{"Logs":[],"Outcome":"ok`, false)
	f(`{"Logs":[1],"Outcome":"ok","WallTimeMs":1}`, false)
	f(``, false)
}

func TestSplitterRefusesWhatIsNestedTooDeeply(t *testing.T) {
	var s Splitter
	var r Record
	nested := func(n int) []byte {
		return fmt.Appendf(nil, `{"Event":[[%s%s]]}`, strings.Repeat("[", n), strings.Repeat("]", n))
	}
	for _, n := range []int{1, 2, maxDepth - 10} {
		if err := s.Split(&r, nested(n)); err != nil {
			t.Fatal(err)
		}
	}
	for range learnEvery {
		if err := s.Split(&r, nested(maxDepth)); err == nil {
			t.Fatal("a value nested too deeply was accepted")
		}
	}
}

func variedEvents(n int) (list [][]byte) {
	dice := rand.New(rand.NewPCG(1, 2)) // the same events in each run
	for i := range n {
		ray := fmt.Sprintf("%016x", dice.Uint64())
		event := (&schema.FetchEvent{
			RayID: ray,
			Request: schema.FetchRequest{URL: fmt.Sprintf("https://shop.example.com/items/%d?session=%08x", dice.IntN(100_000), dice.Uint32()), Method: "GET",
				Headers: map[string]string{"user-agent": fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) Chrome/%d.0.0.0", 100+dice.IntN(40))}},
			Response: &schema.FetchResponse{Status: []int{200, 200, 200, 404}[dice.IntN(4)]},
		}).AppendJSON(nil)
		list = append(list, (&schema.TraceEvent{
			Event: event, EventTimestampMs: 1_790_000_000_000 + int64(i)/2, EventType: "fetch", Outcome: "ok",
			ScriptName: []string{"shop", "shop-cart", "search", "login"}[dice.IntN(4)], ScriptTags: []string{"team:web"},
			ScriptVersion: schema.ScriptVersion{ID: []string{"0f0a6a3c-6c1c-4f1f-9c77-b6b2f6d6c0a1", "5b1c9a52-2d44-4e0d-8c8e-0e6f6f0fbb52"}[dice.IntN(2)], Tag: "v12", Message: "deploy"},
			Logs:          []schema.Log{{Level: "log", Message: []json.RawMessage{fmt.Appendf(nil, `"cart of customer %d has %d items"`, dice.IntN(1_000_000), dice.IntN(20))}, TimestampMs: 1_790_000_000_000 + int64(i)/2}},
			WallTimeMs:    new(int64(dice.IntN(90))),
			Gateway:       schema.Gateway{Decision: "split", RayID: ray, UpstreamMs: new(float64(dice.IntN(9000)) / 100)},
		}).AppendJSON(nil))
	}
	return list
}

// BenchmarkSplit is of events that are built alike, as a gateway's are.
func BenchmarkSplit(b *testing.B) {
	events := variedEvents(1000)
	b.Run("alone", func(b *testing.B) {
		var r Record
		for i := 0; b.Loop(); i++ {
			if err := r.Split(events[i%len(events)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one after another", func(b *testing.B) {
		var r Record
		var s Splitter
		for i := 0; b.Loop(); i++ {
			if err := s.Split(&r, events[i%len(events)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
