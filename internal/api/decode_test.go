package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// refusing decodes itself, and takes nothing.
type refusing struct{}

func (*refusing) UnmarshalJSON([]byte) error { return errors.New("it is not supported yet") }

// sample has every kind of member that the API's bodies have.
type sample struct {
	Name   string             `json:"name"`
	Count  *int64             `json:"count"`
	Rate   float64            `json:"rate"`
	On     bool               `json:"on"`
	Share  *deploy.Percentage `json:"share"`
	At     *time.Time         `json:"at"`
	Later  *refusing          `json:"later"`
	List   []inner            `json:"list"`
	Hidden string             `json:"-"`
	inner
}

type inner struct {
	Key  string `json:"a/b~c"`
	Name string `json:"name"` // hidden by sample's
}

func TestDecodeStrictAccepts(t *testing.T) {
	f := func(text string, want sample) {
		t.Helper()
		var got sample
		if err := decodeStrict([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	n, share := int64(7), deploy.Percentage(12346)
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f(`{}`, sample{})
	f(` {"name":"x","count":7,"rate":1e-2,"on":true} `, sample{Name: "x", Count: &n, Rate: 0.01, On: true})
	f(`{"count":null,"share":null,"list":null,"later":null}`, sample{})
	f(`{"share":12.3456,"at":"2026-01-31T12:00:00Z"}`, sample{Share: &share, At: &at})
	f(`{"list":[{"a/b~c":"x"},{}],"a/b~c":"y"}`, sample{List: []inner{{Key: "x"}, {}}, inner: inner{Key: "y"}})
}

func TestDecodeStrictRefuses(t *testing.T) {
	f := func(text, pointer, sentence string) {
		t.Helper()
		err := decodeStrict([]byte(text), &sample{})
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != errs.Invalid || e.Pointer != pointer || !strings.Contains(e.Message, sentence) {
			t.Errorf("%s: %+v, want %q at %q", text, err, sentence, pointer)
		}
	}
	f(` `, "", "the body is empty")
	f(`null`, "", "the body is null: it must be an object")
	f(`7`, "", "the body is 7")
	f(`{"name":"x"`, "", "ends too early")
	f(`{"name":"x",}`, "", "not valid JSON")
	f(`{"name":tru}`, "", "not valid JSON")
	f(`{} {}`, "", "goes on after the JSON text")
	f(`{}]`, "", "goes on after the JSON text")
	f("{\"name\":\"\xff\"}", "", "not UTF-8")
	f(`{"name":"a\u0000b"}`, "/name", "name has a NUL")
	f(`{"Name":"x"}`, "/Name", "Name is unknown")
	f(`{"Hidden":"x"}`, "/Hidden", "the members here are a/b~c, at, count, later, list, name, on, rate, share")
	f(`{"name":"x","name":"x"}`, "/name", "name appears twice")
	f(`{"name":null}`, "/name", "name is null: it must be a string")
	f(`{"name":{"a":1}}`, "/name", "name is an object: it must be a string")
	f(`{"count":1.5}`, "/count", "count is 1.5: it must be a whole number")
	f(`{"count":99999999999999999999}`, "/count", "99999999999999999999")
	f(`{"rate":1e999}`, "/rate", "1e999")
	f(`{"rate":"`+strings.Repeat("é", 100)+`"}`, "/rate", `é...: it must be a number`)
	f(`{"on":0}`, "/on", "on is 0: it must be true or false")
	f(`{"share":101}`, "/share", "share is 101: percentage 101 is not between 0 and 100")
	f(`{"share":[1]}`, "/share", "share is [1]: it must be a number")
	f(`{"at":"soon"}`, "/at", `at is "soon"`)
	f(`{"later":0}`, "/later", "later is 0: it is not supported yet")
	f(`{"list":{}}`, "/list", "list is an object: it must be an array")
	f(`{"list":[{},{"a/b~c":1}]}`, "/list/1/a~1b~0c", "list[1].a/b~c is 1")
	f(`{"list":[{"x":1}]}`, "/list/0/x", "list[0].x is unknown")
}

// FuzzDecodeStrict: what is accepted means the same to encoding/json; what is
// refused is the client's fault, never a panic, and either takes memory in proportion, also
// if a list in it has many more of its first element.
func FuzzDecodeStrict(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"x","count":7,"rate":1e-2,"on":true}`, `{"share":12.3456,"at":"2026-01-31T12:00:00Z"}`,
		`{"list":[{"a/b~c":"x"},{}],"later":null}`, `{"name":"\ud800"}`, `[[[[`, `{"list":[{"x":1}]}`, "{\"name\":\"\x00\"}",
	} {
		f.Add([]byte(seed), uint16(0))
	}
	f.Add([]byte(`{"list":[{}]}`), uint16(10_000))
	f.Fuzz(func(t *testing.T, text []byte, more uint16) {
		if open := bytes.IndexByte(text, '['); open >= 0 {
			if first := bytes.IndexByte(text[open:], '}'); first >= 0 && first < 100 {
				element := append(bytes.Clone(text[open+1:open+first+1]), ',')
				text = slices.Insert(bytes.Clone(text), open+1, bytes.Repeat(element, int(more))...)
			}
		}
		var strict, lenient sample
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decodeStrict(text, &strict)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20+300*uint64(len(text)) {
			t.Errorf("%d bytes were allocated for %d of %.200q", used, len(text), text)
		}
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || err.Error() == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if err := json.Unmarshal(text, &lenient); err != nil || !reflect.DeepEqual(strict, lenient) {
			t.Fatalf("%q: %+v, but encoding/json has %+v, error %v", text, strict, lenient, err)
		}
	})
}

// FuzzDecodePolicy: a policy that is accepted is valid and, sent back as it is
// answered, means the same again.
func FuzzDecodePolicy(f *testing.F) {
	for _, seed := range []string{
		`{"enabled":true}`, `{"enabled":false,"max_failure_rate":0.02,"max_failure_ratio":3,"min_requests":100,"look_back_seconds":300}`,
		`{"enabled":true,"action":"pause","ramp":[{"percentage":5,"bake_seconds":300},{"percentage":100,"bake_seconds":0}]}`,
		`{"enabled":true,"confidence":0.999,"source":"account","revision":7,"modified_by":null,"modified_on":{}}`,
		`{"enabled":true,"notify":[{"type":"slack","url":"https://a/b"}],"promote":[{"from":"22:00","until":"02:00"}],"freeze":[{"from":"2026-12-20T00:00:00Z","until":"2027-01-02T00:00:00+01:00"}]}`, `{"enabled":true,"ramp":[{"percentage":0.0001}]}`, `{"enabled":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := decodePolicy(text)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Fatalf("%q was accepted: %v", text, err)
		}
		answer, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePolicy(answer)
		if err != nil {
			t.Fatalf("%q was answered %s, which is refused: %v", text, answer, err)
		}
		if back, err := json.Marshal(again); err != nil || string(back) != string(answer) {
			t.Fatalf("%q was answered %s, which is answered %s, error %v", text, answer, back, err)
		}
	})
}

// One megabyte of JSON took gigabytes, or minutes: each value's place was written
// out as it was read, so deep objects with long names cost the square of their
// depth, and every element of a list cost the name of the list.
func TestDecodeStrictTakesMemoryInProportion(t *testing.T) {
	f := func(what, value string) {
		t.Helper()
		text := []byte(`{"any":` + value + `}`)
		// About 60 bytes for one of text: the two bytes of an element are a token and a place.
		used := decodingTakes(t, text, &struct {
			Any json.RawMessage `json:"any"`
		}{})
		if used > 300 {
			t.Errorf("%s: %d bytes were allocated for each of the document's", what, used)
		}
	}
	long := strings.Repeat("k", 100)
	f("deep", strings.Repeat(`{"`+long+`":`, 5000)+"0"+strings.Repeat("}", 5000))
	f("wide", `{"`+strings.Repeat(long, 1000)+`":[`+strings.Repeat("0,", 50_000)+`0]}`)
}

// Each element of a list had its type looked at anew, some 1,300 bytes for three of text.
func TestDecodeStrictLooksAtATypeOnce(t *testing.T) {
	text := []byte(`{"list":[` + strings.Repeat("{},", 10_000) + `{}]}`)
	if used := decodingTakes(t, text, &sample{}); used > 300 {
		t.Errorf("%d bytes were allocated for each of the document's", used)
	}
}

// decodingTakes returns how many bytes are allocated for each of a text that is accepted.
func decodingTakes(t *testing.T, text []byte, v any) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := decodeStrict(text, v); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / uint64(len(text))
}

// A member's name was part of a format, so one with a percent sign made nonsense of
// the sentence about it.
func TestDecodeStrictNamesPercentSigns(t *testing.T) {
	err := decodeStrict([]byte(`{"list":[{"%d%s":1}]}`), &sample{})
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || e.Pointer != "/list/0/%d%s" || !strings.HasPrefix(e.Message, "list[0].%d%s is unknown: the members here are a/b~c") {
		t.Errorf("error %+v", err)
	}
}

// FuzzDecodeAffinity: rules that are accepted are valid and, sent back as they are
// answered, mean the same again.
func FuzzDecodeAffinity(f *testing.F) {
	for _, seed := range []string{
		`{"rules":[{"source":"cookie","name":"a"},{"source":"client_ip"}]}`, `{"rules":[{"source":"path","segment":2},{"source":"path","prefix":"/a/"}]}`,
		`{"rules":[]}`, `{"rules":null}`, `{"rules":[{"source":"header","name":"Host"}]}`, `{"rules":[{"source":"path","segment":0,"prefix":"/"}]}`,
		`{"rules":[{"source":"query","name":"a","forward":false},{"source":"cookie","name":"a","set":{"max_age":60,"same_site":"none","domain":"a.b","path":"/a","secure":"always","partitioned":true}}]}`,
		`{"rules":[{"source":"cookie","name":"a","set":{}}]}`, `{"rules":[{"source":"cookie","name":"a","set":null,"forward":null}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decodeAffinity(text)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		answer, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeAffinity(answer); err != nil || !reflect.DeepEqual(a, again) {
			t.Fatalf("%q was answered %s, which is %+v, error %v", text, answer, again, err)
		}
	})
}
