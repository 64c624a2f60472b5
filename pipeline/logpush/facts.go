package logpush

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/logjob"
	"tidegate/schema"
)

// facts finds what batches need to know of a record beside its text: the part,
// where the folder asks for it, and the item, where the sink does. It remembers
// texts, which are few, so that records share them. It belongs to one goroutine.
type facts struct {
	byScript, byVersion bool // what the folder names
	items               bool

	item     Item
	texts    map[string]string // of JSON strings
	versions map[string]string // ids of ScriptVersion objects
}

// factsMax bounds the texts that are remembered, of each kind.
const factsMax = 1000

func newFacts(conf string, t Traits) *facts {
	folder := ""
	if u, err := logjob.ParseDestination(conf); err == nil { // as it was for the sink
		folder = u.Path // where %7B is a brace, as for Object.Key
	}
	return &facts{
		byScript: strings.Contains(folder, placeScript), byVersion: strings.Contains(folder, placeVersion), items: t.Records,
		texts: map[string]string{}, versions: map[string]string{},
	}
}

// of returns the part and the item of an event, whose record Kafka has stamped. The item
// is valid until it is called again, and empty where the sink does not want it.
func (f *facts) of(r *logjob.Record, stamped time.Time) (g part, item *Item) {
	if f.byScript {
		g.script = f.text(r.Raw("ScriptName"))
	}
	if f.byVersion {
		g.version = f.version(r.Raw("ScriptVersion"))
	}
	if f.items {
		f.item = Item{
			Time: timeOf(r, stamped), Script: f.text(r.Raw("ScriptName")), Version: f.version(r.Raw("ScriptVersion")),
			Outcome: f.text(r.Raw("Outcome")), EventType: f.text(r.Raw("EventType")),
		}
	}
	return g, &f.item
}

// text returns the text of a JSON string, "" for anything else.
func (f *facts) text(raw []byte) string {
	return remember(f.texts, raw, func() string {
		text, _ := logjob.Unquote(raw)
		return string(text)
	})
}

// version returns the id in a ScriptVersion, "" where there is none.
func (f *facts) version(raw []byte) string {
	return remember(f.versions, raw, func() string {
		var v struct {
			ID string `json:"id"`
		}
		_ = json.Unmarshal(raw, &v) // of another shape: it has no id
		return v.ID
	})
}

func remember(known map[string]string, raw []byte, find func() string) string {
	if raw == nil {
		return ""
	}
	if text, ok := known[string(raw)]; ok {
		return text
	}
	if len(known) >= factsMax {
		clear(known)
	}
	text := find()
	known[string(raw)] = text
	return text
}

// timeOf returns the time of an event, schema.EventTime, and that of its record where it
// has none. event may be empty.
func timeOf(event *logjob.Record, stamped time.Time) time.Time {
	ms, _ := strconv.ParseInt(string(event.Raw("EventTimestampMs")), 10, 64) // 0 is no time either
	at, _, ok := schema.EventTime(ms, stamped)
	if !ok {
		at = stamped
	}
	return at
}
