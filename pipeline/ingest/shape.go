package ingest

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"tidegate/internal/logjob"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// readShape reads an event that is written exactly as schema.TraceEvent.AppendJSON
// writes one: its members, in its order, without white space. It returns false, and e
// is of no use, for everything else: an event of another version, or of somebody else's
// making, one that is damaged, or lacks what schema.DecodeEvent wants. The texts of e
// are parts of value.
func readShape(value []byte, e *event) bool {
	*e = event{}
	c := cursor{data: value}
	c.want(`{`)
	if c.has(`"CPUTimeMs":`) {
		e.cpuMs = tables.Known(c.int())
		c.want(`,`)
	}
	c.want(`"DispatchNamespace":`)
	e.dispatchNamespace = c.text()
	c.want(`,"Entrypoint":`)
	e.entrypoint = c.text()
	c.want(`,"Event":`)
	request, asked := c.event(e)
	c.want(`,"EventTimestampMs":`)
	e.timestampMs = c.int()
	c.want(`,"EventType":`)
	e.eventType = c.text()
	c.want(`,"Exceptions":`)
	e.exceptions = c.list(c.exception)
	c.failed = c.failed || !readable(e.exceptions)
	c.want(`,"Logs":`)
	e.logs = c.list(c.log)
	c.want(`,"Outcome":`)
	e.outcome = c.text()
	c.want(`,"ScriptName":`)
	e.scriptName = c.text()
	c.want(`,"ScriptTags":`)
	e.tags = c.list(c.skipString)
	c.want(`,"ScriptVersion":{"id":`)
	e.versionID = c.text()
	c.want(`,"message":`)
	e.versionMessage = c.text()
	c.want(`,"tag":`)
	e.versionTag = c.text()
	c.want(`}`)
	if c.has(`,"WallTimeMs":`) {
		e.wallMs = tables.Known(c.int())
	}
	c.gateway(e)
	c.want(`},"ErrorKind":`)
	e.errorKind = c.text()
	c.want(`}`)
	if c.failed || c.at != len(value) || e.timestampMs <= 0 || len(e.scriptName) == 0 || len(e.outcome) == 0 || e.sampledOut < 0 || e.sampledOut > schema.SampledOutMax {
		return false
	}
	if string(e.eventType) == eventTypeFetch {
		if e.request = request; !asked {
			e.request = decodeFetch(e.event)
		}
	}
	return true
}

func (c *cursor) gateway(e *event) {
	c.want(`,"Gateway":{"Decision":`)
	e.decision = c.text()
	c.want(`,"RayID":`)
	e.rayID = c.text()
	if c.has(`,"AffinityRule":`) {
		e.affinityRule = int(c.int())
	}
	if c.has(`,"UpstreamMs":`) {
		e.upstreamMs = tables.Known(c.float())
	}
	if c.has(`,"CallerScript":`) {
		e.callerScript = c.text()
	}
	if c.has(`,"CallerVersionID":`) {
		e.callerVersionID = c.text()
	}
	if c.has(`,"SampledOut":`) {
		e.sampledOut = c.int()
	}
}

// event reads Event, and what it says of a request if it is shaped like one.
func (c *cursor) event(e *event) (request fetch, ok bool) {
	if c.failed {
		return fetch{}, false
	}
	start := c.at
	if c.has(`{"RayID":`) {
		c.skip(2)
		c.want(`,"Request":{"URL":`)
		request.url = c.text()
		c.want(`,"Method":`)
		request.method = c.text()
		if c.has(`,"Headers":`) {
			c.skip(3)
		}
		c.want(`}`)
		if c.has(`,"Response":{"Status":`) {
			request.status = int(c.int())
			c.want(`}`)
		}
		c.want(`}`)
		ok = !c.failed
	}
	if !ok {
		*c = cursor{data: c.data, at: start}
		c.skip(1)
	}
	e.event = c.data[start:c.at]
	return request, ok
}

// readable reports whether ClickHouse, which is stricter, reads JSON too: not where it is no
// UTF-8, nor with half a surrogate pair. Gateways write pairs as the character that they are.
func readable(list []byte) bool {
	return utf8.Valid(list) && !bytes.Contains(list, []byte(`\ud`)) && !bytes.Contains(list, []byte(`\uD`))
}

func (c *cursor) exception() {
	c.want(`{"Name":`)
	c.skipString()
	c.want(`,"Message":`)
	c.skipString()
	c.want(`,"TimestampMs":`)
	c.int()
	if c.has(`,"Stack":`) {
		c.skipString()
	}
	c.want(`}`)
}

func (c *cursor) log() {
	c.want(`{"Level":`)
	c.skipString()
	c.want(`,"Message":`)
	if c.peek() != '[' {
		c.failed = true
		return
	}
	if c.skip(3) {
		c.failed = true // it is to be compact
	}
	c.want(`,"TimestampMs":`)
	c.int()
	c.want(`}`)
}

// cursor reads JSON whose members are known. After a failure it reads nothing.
type cursor struct {
	data   []byte
	at     int
	failed bool
}

func (c *cursor) peek() byte {
	if c.failed || c.at >= len(c.data) {
		return 0
	}
	return c.data[c.at]
}

// has moves behind text if that is next.
func (c *cursor) has(text string) bool {
	if c.failed || len(c.data)-c.at < len(text) || string(c.data[c.at:c.at+len(text)]) != text {
		return false
	}
	c.at += len(text)
	return true
}

func (c *cursor) want(text string) {
	if !c.has(text) {
		c.failed = true
	}
}

// skip moves behind any value, and tells whether there is white space in it.
func (c *cursor) skip(depth int) (spaced bool) {
	if c.failed {
		return false
	}
	end, spaced, ok := logjob.ValueEnd(c.data, c.at, depth)
	c.at, c.failed = end, !ok
	return spaced
}

func (c *cursor) skipString() {
	if c.peek() != '"' {
		c.failed = true
	}
	c.skip(1) // strings have no depth
}

// text reads a string.
func (c *cursor) text() []byte {
	start := c.at
	if c.skipString(); c.failed {
		return nil
	}
	const quote = 1
	text := c.data[start+quote : c.at-quote : c.at-quote]
	if bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text) {
		return text
	}
	var s string
	if json.Unmarshal(c.data[start:c.at], &s) != nil {
		c.failed = true
	}
	return []byte(s)
}

// list reads a list of values that one reads, and returns its JSON.
func (c *cursor) list(one func()) []byte {
	start := c.at
	c.want(`[`)
	if !c.has(`]`) {
		for one(); c.has(`,`); one() {
		}
		c.want(`]`)
	}
	return c.data[start:c.at:c.at]
}

// digitsMax keeps numbers within what an int64 holds, and a float64 exactly.
const digitsMax = 15

// digits reads up to digitsMax digits, and returns how many there were.
func (c *cursor) digits() (value int64, n int) {
	for b := c.peek(); '0' <= b && b <= '9'; b = c.peek() {
		value = value*10 + int64(b-'0')
		c.at++
		if n++; n > digitsMax {
			c.failed = true
		}
	}
	return value, n
}

// int reads a whole number.
func (c *cursor) int() int64 {
	negative := c.has(`-`)
	leading := c.peek()
	value, n := c.digits()
	if n == 0 || n > 1 && leading == '0' {
		c.failed = true
	}
	if negative {
		return -value
	}
	return value
}

// float reads a number without an exponent.
func (c *cursor) float() float64 {
	start := c.at
	c.int()
	if c.has(`.`) {
		if _, n := c.digits(); n == 0 {
			c.failed = true
		}
	}
	if c.failed {
		return 0
	}
	value, err := strconv.ParseFloat(string(c.data[start:c.at]), 64)
	if err != nil {
		c.failed = true
	}
	return value
}
