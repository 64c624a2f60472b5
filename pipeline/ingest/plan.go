package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// mark is the metadata of each commit.
type mark struct {
	plan // the block that begins at the offset and is being settled; zero when none is
	// Newest is the time of the newest record seen in the partition, in Unix
	// milliseconds; 0 is unknown. It tells a partition that lost its end from one
	// that was made anew.
	Newest int64 `json:"newest,omitempty"`
}

// plan is a block that is about to be inserted, or was: the records of one
// partition from offset Begin up to, but not including, End. It is committed with
// the offset Begin before the insert, so that whoever goes on after a crash builds
// the same block again, under the same name.
type plan struct {
	Begin int64 `json:"begin,omitempty"`
	End   int64 `json:"end,omitempty"`
	// At is the time of the first record, in Unix milliseconds. It keeps the
	// offsets of a topic that was deleted and made again apart from those of the
	// old one, which ClickHouse may still remember.
	At int64 `json:"at,omitempty"`
	// Refused are the records that go to the quarantine because too many names were in
	// use, which nobody could find out again: see refused.
	Refused string `json:"refused,omitempty"`
}

// newMark returns the mark of a commit. Either may be zero.
func newMark(planned plan, newest time.Time) mark {
	m := mark{plan: planned}
	if !newest.IsZero() {
		m.Newest = newest.UnixMilli()
	}
	return m
}

// newest is the zero time when it is unknown.
func (m mark) newest() time.Time {
	if m.Newest == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m.Newest)
}

// String returns the metadata of an offset commit.
func (m mark) String() string {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // numbers and texts always marshal
	}
	return string(b)
}

// parseMark reads the metadata of an offset commit. Empty metadata is the zero
// mark: no block is planned and nothing is known.
func parseMark(metadata string) (m mark, err error) {
	if metadata == "" {
		return mark{}, nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(metadata)))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return mark{}, fmt.Errorf("read the mark %.200q: %w", metadata, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return mark{}, fmt.Errorf("read the mark %.200q: something follows it", metadata)
	}
	if p := m.plan; p != (plan{}) && (p.Begin < 0 || p.End <= p.Begin) {
		return mark{}, fmt.Errorf("read the mark %.200q: begin must be 0 or more and end greater than begin", metadata)
	}
	if _, err := m.refused(); err != nil {
		return mark{}, fmt.Errorf("read the mark %.200q: %w", metadata, err)
	}
	return m, nil
}

// token names the plan's block in ClickHouse, which drops a second block of the
// same name.
func (p plan) token(topic string, partition int) string {
	b := append([]byte(topic), '-')
	b = strconv.AppendInt(b, int64(partition), 10)
	b = strconv.AppendInt(append(b, '-'), p.Begin, 10)
	b = strconv.AppendInt(append(b, '-'), p.End, 10)
	b = strconv.AppendInt(append(b, '-'), p.At, 10)
	return string(b)
}
