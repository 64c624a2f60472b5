package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// plan is a block that is about to be inserted, or was: the records of one
// partition from offset Begin up to, but not including, End. It is committed as
// the metadata of Begin before the insert, so that whoever goes on after a crash
// builds the same block again, under the same name.
type plan struct {
	Begin int64 `json:"begin"`
	End   int64 `json:"end"`
	// At is the time of the first record, in Unix milliseconds. It keeps the
	// offsets of a topic that was deleted and made again apart from those of the
	// old one, which ClickHouse may still remember.
	At int64 `json:"at"`
}

// encode returns the plan as the metadata of an offset commit.
func (p plan) encode() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // three numbers always marshal
	}
	return string(b)
}

// decodePlan reads the metadata of an offset commit. Empty metadata is no plan:
// the block before the offset was settled and the next one is not planned yet.
func decodePlan(metadata string) (p plan, ok bool, err error) {
	if metadata == "" {
		return plan{}, false, nil
	}
	d := json.NewDecoder(bytes.NewReader([]byte(metadata)))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return plan{}, false, fmt.Errorf("read the plan %.200q: %w", metadata, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return plan{}, false, fmt.Errorf("read the plan %.200q: something follows it", metadata)
	}
	if p.Begin < 0 || p.End <= p.Begin {
		return plan{}, false, fmt.Errorf("read the plan %.200q: begin must be 0 or more and end greater than begin", metadata)
	}
	return p, true, nil
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
