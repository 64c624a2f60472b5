// Package events makes trace events as gateways send them, for benchmarks that must
// not be flattered by events that are all alike.
package events

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"tidegate/schema"
)

// Account is the account of all events.
const Account = "00000000000000000000000000000001"

// Mix says what events are made of. The zero Mix makes none.
type Mix struct {
	Scripts int           // some are much busier than others: the nth gets 1/n of the first one's events
	Begin   time.Time     // of the first event
	Length  time.Duration // until the last one
	Events  int
}

// rayAt is a ray as a gateway makes one: its first five digits are the time in units
// of 64 s.
func rayAt(dice *rand.Rand, at int64) string {
	return fmt.Sprintf("%016x", uint64(at)/64_000<<44|dice.Uint64()>>20) // #nosec G115 -- after 1970
}

// Append appends the ith event of a mix, 0 to Events-1, as JSON. The same dice give
// the same events, whatever was appended before.
//
// It is about a service that people and programs call: paths with ids, one query in
// three, some forty user agents, referrers; times of a log-normal distribution around
// 12 ms; 2 % of failures, half of them with an exception; a console log in one event
// of three; two versions of each script at 90 and 10 %. One event in four was
// measured for CPU time.
func (m Mix) Append(b []byte, dice *rand.Rand, i int) []byte {
	script := m.script(dice)
	version := 0
	if dice.IntN(10) == 0 {
		version = 1
	}
	at := m.Begin.Add(time.Duration(float64(m.Length) * float64(i) / float64(m.Events))).UnixMilli()
	wall := math.Exp(math.Log(12) + 0.8*dice.NormFloat64())
	upstream := math.Round(wall*950) / 1000
	ray := rayAt(dice, at)
	e := schema.TraceEvent{
		EventTimestampMs: at, EventType: "fetch", Outcome: schema.OutcomeOK, ScriptName: fmt.Sprintf("service-%d", script), ScriptTags: []string{"team:web"},
		ScriptVersion: schema.ScriptVersion{ID: versionID(script, version), Tag: fmt.Sprintf("v%d", script%40+version), Message: "deploy"},
		WallTimeMs:    new(int64(wall)),
		Gateway:       schema.Gateway{Decision: schema.DecisionSplit, RayID: ray, UpstreamMs: &upstream},
	}
	if dice.IntN(4) == 0 {
		e.CPUTimeMs = new(int64(wall / 3))
	}
	status := 200
	switch dice.IntN(100) {
	case 0:
		e.Outcome, status = schema.OutcomeException, 500
		e.Exceptions = []schema.Exception{{Name: "TypeError", TimestampMs: at,
			Message: fmt.Sprintf("Cannot read properties of undefined (reading 'item%d')", dice.IntN(50)),
			Stack:   fmt.Sprintf("    at handle (worker.js:%d:%d)\n    at Object.fetch (worker.js:12:9)", 20+dice.IntN(30), 5+dice.IntN(40))}}
	case 1:
		status = 503
	case 2, 3, 4:
		status = 404
	case 5, 6:
		status = 304
	}
	if dice.IntN(3) == 0 {
		text, err := json.Marshal(fmt.Sprintf("cart of customer %d has %d items", dice.IntN(1_000_000), dice.IntN(20)))
		if err != nil {
			panic(err) // a string marshals
		}
		e.Logs = []schema.Log{{Level: "log", Message: []json.RawMessage{text}, TimestampMs: at + int64(wall/2)}}
	}
	fetch := schema.FetchEvent{
		RayID: ray, Request: request(dice, script), Response: &schema.FetchResponse{Status: status},
	}
	e.Event = fetch.AppendJSON(nil)
	return e.AppendJSON(b)
}

// script draws from 1/n, cut off at Scripts.
func (m Mix) script(dice *rand.Rand) int {
	return int(math.Pow(float64(m.Scripts), dice.Float64())) - 1
}

func versionID(script, version int) string {
	dice := rand.New(rand.NewPCG(uint64(script), uint64(version))) // #nosec G115 -- seeds
	a, b := dice.Uint64(), dice.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>52, b&0xffffffffffff)
}

var paths = []string{"/", "/items/%d", "/cart", "/api/v2/orders/%d", "/search", "/account/%d/settings", "/static/app.%d.js", "/healthz"}

func request(dice *rand.Rand, script int) schema.FetchRequest {
	path := paths[dice.IntN(len(paths))]
	if n := dice.IntN(100_000); len(path) > 2 && path != "/cart" && path != "/search" && path != "/healthz" {
		path = fmt.Sprintf(path, n)
	}
	if dice.IntN(3) == 0 {
		path += fmt.Sprintf("?page=%d&session=%08x", dice.IntN(20), dice.Uint32())
	}
	r := schema.FetchRequest{URL: fmt.Sprintf("https://service-%d.example.com%s", script, path), Method: "GET", Headers: map[string]string{
		"user-agent": fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.0.0 Safari/537.36", 100+dice.IntN(40)),
	}}
	if dice.IntN(5) == 0 {
		r.Method = "POST"
		r.Headers["content-type"] = "application/json"
	}
	if dice.IntN(2) == 0 {
		r.Headers["referer"] = fmt.Sprintf("https://service-%d.example.com/items/%d", script, dice.IntN(100_000))
	}
	return r
}
