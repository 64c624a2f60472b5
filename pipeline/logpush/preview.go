package logpush

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

const (
	// previewOutputMax bounds what one preview answers. Templates can make much of little.
	previewOutputMax = 16 << 20
	// previewsAtOnce bounds the memory of all of them: each may hold previewBytesMax of
	// every partition, and its output a few times.
	previewsAtOnce = 2
)

// Previews shows what jobs would send, without sending it. Its methods are safe for
// concurrent use.
type Previews struct {
	sinks  Sinks
	topic  PreviewTopic
	config Config
	turns  chan struct{}
}

// NewPreviews returns previews of jobs on a topic; nil: only of events that are given.
// What deletions name is not shown; nil: there are none.
func NewPreviews(sinks Sinks, topic PreviewTopic, deletions Deletions) *Previews {
	// Nothing waits here: batches are not closed by the clock.
	config := Config{DefaultInterval: maxInterval, Parallel: 1, Deletions: deletions}
	return &Previews{sinks: sinks, topic: topic, config: config, turns: make(chan struct{}, previewsAtOnce)}
}

// Preview runs a job over events, or, where they are nil, over the newest ones of its
// account, up to limit. It goes through the same settings, filter, windows and
// formats as a delivery that begins at the first of them, up to the upload. Events
// that are given have offsets from 0 on, in partition 0, and the time of now.
//
// An *errs.Error is about the job, or is unavailable when the topic cannot be read.
func (p *Previews) Preview(ctx context.Context, j logjob.Job, events [][]byte, limit int) (logjob.Preview, error) {
	s, err := newSettings(j, p.sinks, p.config)
	if err != nil {
		return logjob.Preview{}, err
	}
	select {
	case <-ctx.Done():
		return logjob.Preview{}, ctx.Err()
	case p.turns <- struct{}{}:
	}
	defer func() { <-p.turns }()
	run := &preview{settings: s, facts: newFacts(j.DestinationConf, s.traits), answer: logjob.Preview{Source: logjob.PreviewRequest, Objects: []logjob.PreviewObject{}}}
	pieces := []piece{{records: recordsOf(j.AccountID, events)}}
	if events == nil {
		run.answer.Source = logjob.PreviewKafka
		s.deleted = &deleted{from: p.config.Deletions}
		if err := s.deleted.refresh(ctx); err != nil {
			return logjob.Preview{}, err
		}
		if pieces, err = p.newest(ctx, j.AccountID, limit); err != nil {
			return logjob.Preview{}, err
		}
	}
	for _, of := range pieces {
		if len(of.records) == 0 {
			continue
		}
		var memory arena
		memory.splitAll(of.records)
		if err := run.partition(of.partition, memory.entries); err != nil {
			return logjob.Preview{}, err
		}
	}
	run.sum()
	return run.answer, nil
}

// recordsOf makes events what Kafka would have given.
func recordsOf(account string, events [][]byte) []stream.Record {
	records := make([]stream.Record, len(events))
	now := time.Now().Truncate(time.Millisecond)
	for i, value := range events {
		records[i] = stream.Record{Offset: int64(i), Time: now, Account: account, Value: value}
	}
	return records
}

// preview is one run. It does what a delivery does, without the clock.
type preview struct {
	*settings
	facts  *facts
	counts counts
	text   []byte
	output int64 // bytes so far
	answer logjob.Preview
}

func (p *preview) partition(id int, records []entry) error {
	now := time.Now()
	w := newWindow(p.settings)
	for i := range records {
		r := &records[i]
		var sent bool
		p.text, sent = p.textOf(&p.counts, p.text, id, r)
		if p.counts.long > 0 {
			return errs.New(errs.TooLarge, 0, "the record of an event has more than %d bytes: the job would leave it out", logjob.RecordBytesMax)
		}
		if !sent {
			if !w.Empty() {
				w.Extend(r.Offset+1, r.Time)
			}
			continue
		}
		if p.output += int64(len(p.text)); p.output > previewOutputMax {
			return errs.New(errs.TooLarge, 0, "the output has more than %d bytes: try fewer events, with limit", previewOutputMax)
		}
		g, item := p.facts.of(&r.event, r.Time)
		if !w.Fits(g, len(p.text), r.Time) {
			if err := p.seal(id, w); err != nil {
				return err
			}
			w = newWindow(p.settings)
		}
		if err := w.Add(now, g, p.text, r.Offset, r.Time, item); err != nil {
			return err
		}
		if w.Full(now) {
			if err := p.seal(id, w); err != nil {
				return err
			}
			w = newWindow(p.settings)
		}
	}
	return p.seal(id, w)
}

// seal answers the objects of a window.
func (p *preview) seal(partition int, w *window) error {
	if w.Empty() {
		return nil
	}
	planned := w.Plan()
	objects, err := w.Seal(partition, &planned)
	if err != nil {
		return err
	}
	for _, s := range objects {
		text, err := s.content(p.format)
		if err != nil {
			return err
		}
		o := logjob.PreviewObject{Name: nameOf(p.sink, &s.Object), Records: s.Records, ContentType: s.ContentType, OneByOne: s.Items != nil}
		if utf8.Valid(text) {
			o.Output = string(text)
		} else {
			o.OutputBase64 = text
		}
		p.answer.Objects = append(p.answer.Objects, o)
	}
	return nil
}

// content returns what a destination reads in the end.
func (s *sealed) content(f *logjob.Format) ([]byte, error) {
	var text bytes.Buffer
	if s.Items != nil {
		err := writeItems(&text, s.Items, f.Delimiter)
		return text.Bytes(), err
	}
	body, err := gzip.NewReader(bytes.NewReader(s.Body))
	if err == nil {
		_, err = io.Copy(&text, body) // #nosec G110 -- it was compressed here, and is bounded
	}
	if err != nil {
		return nil, fmt.Errorf("read an object of a preview: %w", err)
	}
	return text.Bytes(), nil
}

func (p *preview) sum() {
	c := p.counts
	p.answer.LookedAt, p.answer.Cut = c.in, c.truncated
	p.answer.Dropped = logjob.PreviewDropped{Filter: c.filtered, Sample: c.sampled, LogpushDisabled: c.disabled, Deleted: c.deleted, Malformed: c.malformed}
	p.answer.Sent = c.in - c.filtered - c.sampled - c.disabled - c.deleted - c.malformed
}
