package events

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"tidegate/schema"
)

// AppendSmall appends an event of about 640 bytes, of one of four scripts, that happened at a
// time in Unix milliseconds.
func AppendSmall(b []byte, dice *rand.Rand, at int64) []byte {
	script := []string{"shop", "shop-cart", "search", "login"}[dice.IntN(4)]
	version := []string{"0f0a6a3c-6c1c-4f1f-9c77-b6b2f6d6c0a1", "5b1c9a52-2d44-4e0d-8c8e-0e6f6f0fbb52"}[dice.IntN(2)]
	outcome, status := schema.OutcomeOK, 200
	switch dice.IntN(50) {
	case 0:
		outcome, status = schema.OutcomeException, 500
	case 1, 2:
		status = 404
	}
	ray := rayAt(dice, at)
	event, err := json.Marshal(schema.FetchEvent{
		RayID: ray,
		Request: schema.FetchRequest{
			URL: fmt.Sprintf("https://%s.example.com/items/%d?session=%08x", script, dice.IntN(100_000), dice.Uint32()), Method: "GET",
			Headers: map[string]string{"user-agent": fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) Chrome/%d.0.0.0", 100+dice.IntN(40))},
		},
		Response: &schema.FetchResponse{Status: status},
	})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	upstream := float64(dice.IntN(9000)) / 100
	e := schema.TraceEvent{
		Event: event, EventTimestampMs: at, EventType: "fetch", Outcome: outcome, ScriptName: script, ScriptTags: []string{"team:web"},
		ScriptVersion: schema.ScriptVersion{ID: version, Tag: "v12", Message: "deploy"},
		Logs:          []schema.Log{{Level: "log", Message: []json.RawMessage{json.RawMessage(fmt.Sprintf(`"cart of customer %d has %d items"`, dice.IntN(1_000_000), dice.IntN(20)))}, TimestampMs: at}},
		WallTimeMs:    new(int64(upstream) + 1),
		Gateway:       schema.Gateway{Decision: schema.DecisionSplit, RayID: ray, UpstreamMs: &upstream},
	}
	return e.AppendJSON(b)
}
