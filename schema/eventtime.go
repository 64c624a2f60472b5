package schema

import "time"

// An event's clock is believed if it is at most this far from the time of its
// record, which is stamped when the request has ended. Behind: a stream can be
// open for days. Ahead: clocks of one site differ by less.
const (
	EventBehindMax = 7 * 24 * time.Hour
	EventAheadMax  = time.Hour
)

// What a time can be: outside of it a clock was never set, or its unit is wrong.
var (
	TimeEarliest = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	TimeLatest   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// EventTime returns the time of an event: under which it is stored, and by which a
// replay chooses it. It is the event's own, in Unix milliseconds, unless that is
// further from its record's than a clock and a long request can explain; then it is
// the record's, and skew says by how many milliseconds the event was off. So one
// wrong clock can neither fill a thousand partitions nor hide its events in another
// year. Not ok: neither can be a time.
func EventTime(eventMs int64, record time.Time) (at time.Time, skew int64, ok bool) {
	event := time.UnixMilli(eventMs).UTC()
	record = time.UnixMilli(record.UnixMilli()).UTC()
	if !PlausibleTime(record) {
		return event, 0, PlausibleTime(event)
	}
	if event.Before(record.Add(-EventBehindMax)) || event.After(record.Add(EventAheadMax)) {
		return record, eventMs - record.UnixMilli(), true
	}
	return event, 0, true
}

// PlausibleTime reports whether a clock that was set can have said so.
func PlausibleTime(t time.Time) bool { return !t.Before(TimeEarliest) && t.Before(TimeLatest) }
