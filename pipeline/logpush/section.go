package logpush

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/logjob"
)

// Letters is where the parts of batches are kept that a destination refused for
// good. Its methods are safe for concurrent use.
type Letters interface {
	// AddDeadLetter keeps a letter, unless it is known already. At the limits, which
	// are the job's, the error is an errs.TooLarge, and when the job is gone errs.NotFound.
	AddDeadLetter(ctx context.Context, l logjob.DeadLetter, limits logjob.LetterLimits) error
}

// section is a range of the records of a sealed batch.
type section struct{ from, to int }

func (p section) len() int { return p.to - p.from }

// halves of a part with more than one record.
func (p section) halves() (section, section) {
	middle := p.from + p.len()/2
	return section{p.from, middle}, section{middle, p.to}
}

// whole is the part that is the batch.
func (s *sealed) whole() section { return section{0, len(s.index)} }

// offsets returns where a part's records begin and end in the partition.
func (s *sealed) offsets(p section) (begin, end int64) {
	return s.begin + int64(s.index[p.from].offset), s.begin + int64(s.index[p.to-1].offset) + 1
}

// span returns where the texts of a part begin and end in the uncompressed body,
// without prefix and suffix of the batch.
func (s *sealed) span(p section, f *logjob.Format) (begin, end int64) {
	begin = int64(len(f.BatchPrefix))
	if p.from > 0 {
		begin = int64(s.index[p.from-1].end) + int64(len(f.Delimiter))
	}
	return begin, int64(s.index[p.to-1].end)
}

// cut returns a part as a batch of its own. Its id and name say which records it
// holds: a repeat overwrites itself, and a receiver that remembers ids never takes
// a part for the batch.
func (s *sealed) cut(p section, f *logjob.Format) (*sealed, error) {
	if p == s.whole() {
		return s, nil
	}
	begin, end := s.offsets(p)
	cut := *s
	cut.begin, cut.Records, cut.index = begin, p.len(), s.index[p.from:p.to]
	cut.BatchID = fmt.Sprintf("%s.%d-%d", s.BatchID, begin, end)
	cut.Name = objectName(cut.BatchID, &plan{From: s.Date.Unix(), Until: s.until.Unix()})
	from, to := s.span(p, f)
	cut.size = to - from + int64(len(f.BatchPrefix)+len(f.BatchSuffix))
	if s.Items != nil {
		cut.Items = s.Items[p.from:p.to]
		return &cut, nil
	}
	var err error
	cut.Body, err = zip(f, func(w io.Writer) error { return s.copyText(w, from, to) })
	return &cut, err
}

// copyText writes a range of the uncompressed body. The body is read from its begin:
// that costs time where a batch is refused, and no memory.
func (s *sealed) copyText(w io.Writer, from, to int64) error {
	body, err := gzip.NewReader(bytes.NewReader(s.Body))
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, body, from); err != nil {
		return err
	}
	_, err = io.CopyN(w, body, to-from)
	return err
}

// zip compresses a batch of the records that write writes.
func zip(f *logjob.Format, write func(io.Writer) error) ([]byte, error) {
	var body bytes.Buffer
	zipped := gzip.NewWriter(&body)
	w := &defuser{to: zipped, format: f}
	_, err := w.Write(f.BatchPrefix)
	if err == nil {
		err = write(w)
	}
	if err == nil {
		_, err = w.Write(f.BatchSuffix)
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = zipped.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("make a part of a batch: %w", err)
	}
	return body.Bytes(), nil
}

// defuser defuses what is written in pieces. A "$" at the end of a piece waits for the next one.
type defuser struct {
	to     io.Writer
	format *logjob.Format
	text   []byte
}

func (d *defuser) Write(b []byte) (int, error) {
	d.text = append(d.text, b...)
	d.format.Defuse(d.text)
	rest := bytes.TrimSuffix(d.text, []byte("$"))
	if _, err := d.to.Write(rest); err != nil {
		return 0, err
	}
	d.text = append(d.text[:0], d.text[len(rest):]...)
	return len(b), nil
}

// Flush writes what waits.
func (d *defuser) Flush() error {
	_, err := d.to.Write(d.text)
	return err
}

// letter is a part as it is kept.
func (s *sealed) letter(partition int, r refusal, f *logjob.Format) (logjob.DeadLetter, error) {
	cut, err := s.cut(r.section, f)
	if err != nil {
		return logjob.DeadLetter{}, err
	}
	begin, end := s.offsets(r.section)
	l := logjob.DeadLetter{
		JobID: s.JobID, Partition: partition, BatchID: cut.BatchID, BeginOffset: begin, EndOffset: end, Records: cut.Records,
		From: s.Date, Until: s.until, Status: r.err.Status, Attempts: r.attempts, Body: cut.Body,
		Object: logjob.LetterObject{Name: cut.Name, ContentType: s.ContentType, Script: s.Script, Version: s.Version},
	}
	if cut.Items == nil {
		return l, nil
	}
	at := len(f.BatchPrefix)
	for _, i := range cut.Items {
		l.Object.Items = append(l.Object.Items, logjob.LetterItem{Begin: at, End: at + len(i.Text), Time: i.Time,
			Script: i.Script, Version: i.Version, Outcome: i.Outcome, EventType: i.EventType, Offset: i.Offset})
		at += len(i.Text) + len(f.Delimiter)
	}
	l.Body, err = zip(f, func(w io.Writer) error { return writeItems(w, cut.Items, f.Delimiter) })
	return l, err
}

func writeItems(w io.Writer, items []Item, delimiter []byte) error {
	for i, item := range items {
		if i > 0 {
			if _, err := w.Write(delimiter); err != nil {
				return err
			}
		}
		if _, err := w.Write(item.Text); err != nil {
			return err
		}
	}
	return nil
}

// SendLetter sends a dead letter as it was sent before, to a destination that may be
// another one now. Its error says what the destination did, without credentials.
func (s Sinks) SendLetter(ctx context.Context, conf, dataset string, l *logjob.DeadLetter) (status int, err error) {
	sink, err := s.Open(conf)
	if err != nil {
		return 0, err
	}
	err = sendLetter(ctx, sink, dataset, l)
	if e, ok := errors.AsType[*UploadError](err); ok {
		return e.Status, errors.New(shown(conf, e))
	}
	return 0, err
}

func sendLetter(ctx context.Context, sink Sink, dataset string, l *logjob.DeadLetter) error {
	o := Object{
		Name: l.Object.Name, Date: l.From, Body: l.Body, ContentType: l.Object.ContentType, Records: l.Records,
		JobID: l.JobID, BatchID: l.BatchID, Dataset: dataset, Partition: l.Partition, Script: l.Object.Script, Version: l.Object.Version,
	}
	if TraitsOf(sink).Records {
		if len(l.Object.Items) == 0 {
			return &UploadError{Text: "the destination takes records one by one, and the letter was made for one that takes files", Permanent: true}
		}
		text, err := l.Content()
		if err != nil {
			return err
		}
		o.Body = nil
		for place, i := range l.Object.Items {
			if i.Begin < 0 || i.Begin > i.End || i.End > len(text) {
				return fmt.Errorf("dead letter %s: a record from %d to %d of %d bytes", l.ID, i.Begin, i.End, len(text))
			}
			o.Items = append(o.Items, Item{Text: text[i.Begin:i.End], Time: i.Time,
				Script: i.Script, Version: i.Version, Outcome: i.Outcome, EventType: i.EventType, Offset: cmp.Or(i.Offset, int64(place))}) // letters once had no offsets
		}
		most := TraitsOf(sink).MaxRecordBytes
		for _, i := range o.Items {
			if most > 0 && len(i.Text) > most {
				return tooLarge(int64(len(i.Text)), int64(most))
			}
		}
	}
	return sink.Put(ctx, o)
}

// refusedPatience is how long a batch is tried again of which a destination refuses
// every record, if it took nothing since the last such batch: then not the records
// are to blame but, most likely, a setting. Dead letters of everything help nobody.
const refusedPatience = 10 * time.Minute

// Bounds of the search in one batch. Beyond them what is refused is kept as it is,
// good records among it.
const (
	splitsMax     = 200   // finds about ten bad records among 100,000
	sizeSplitsMax = 4_000 // after a 413; each leads to smaller uploads
)
