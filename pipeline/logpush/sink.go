package logpush

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
)

// Object is one upload. Uploading it again, after a crash or a failure, must
// leave one object: its name and its content stay the same.
type Object struct {
	Name        string    // without folders: <start>_<end>_<hash>.log.gz
	Date        time.Time // fills {DATE} and {HOUR}: when the batch begins
	Body        []byte    // gzip unless Plain; nil where the sink wants Items
	Plain       bool      // Body is what a person shall read: set for Traits.Challenge only
	Items       []Item    // the records one by one, for sinks whose Traits say so
	ContentType string    // of what is inside the gzip
	Records     int

	// Identity of the batch, for destinations that can carry it. A test upload
	// has neither job nor batch.
	JobID     int64
	BatchID   string // the same for a repeat, and for nothing else
	Dataset   string
	Partition int // of the topic, that the records are from

	// Script and Version are those of every record of the object, where the folder
	// names them; otherwise empty.
	Script, Version string
}

// Item is one record of an object.
type Item struct {
	Text []byte    // formatted, with record_prefix and record_suffix
	Time time.Time // when the event began (schema.EventTime), in whole milliseconds

	Script, Version, Outcome, EventType string

	Offset int64 // of the record in its partition, and so the same each time it is sent
}

// Placeholders that the path of a destination_conf may hold, for sinks that use Object.Key.
const (
	placeDate    = "{DATE}"    // the day of the batch's begin, YYYYMMDD, UTC
	placeHour    = "{HOUR}"    // the hour of the batch's begin, 00 to 23, UTC
	placeJob     = "{JOB}"     // the job's id
	placeScript  = "{SCRIPT}"  // the Worker's name
	placeVersion = "{VERSION}" // the id of the version that served
)

// Key fills the placeholders of a destination_conf's folder and joins it and the
// object's name. It has no leading slash. What stands for a placeholder never
// holds one, or "..", or stands for more than one folder; where it is unknown it is "_".
func (o *Object) Key(folder string) string {
	job := ""
	if o.JobID != 0 {
		job = strconv.FormatInt(o.JobID, 10)
	}
	at := o.Date.UTC()
	folder = strings.NewReplacer(
		placeDate, at.Format("20060102"),
		placeHour, at.Format("15"),
		placeJob, segment(job),
		placeScript, segment(o.Script),
		placeVersion, segment(o.Version),
	).Replace(folder)
	return strings.TrimPrefix(path.Join("/", folder, o.Name), "/")
}

// segment makes text one harmless part of a path.
func segment(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r < ' ' {
			return '_'
		}
		return r
	}, text)
	if strings.Trim(text, ".") == "" {
		return "_"
	}
	return text
}

// Traits of a destination. The zero value is a destination without caps of its
// own, which takes gzip files and does not replace what it got before.
type Traits struct {
	// Caps of one object, whatever the job says; 0 is none.
	MaxBytes       int64 // uncompressed
	MaxRecords     int
	MaxRecordBytes int
	// Records says that the sink wants Object.Items instead of Object.Body.
	Records bool
	// Overwrites says that a repeat under the same key replaces what is there.
	Overwrites bool
	// Challenge says that the sink writes with credentials of the operator's, so that
	// who names the destination proves to own it first. It takes an Object that is Plain.
	Challenge bool
	// InOrder says that the batches of a partition must come one after the other.
	// Otherwise several may be under way at a time.
	InOrder bool
}

// Traiter is implemented by sinks with other Traits than the zero value. They
// never change.
type Traiter interface{ Traits() Traits }

// TraitsOf returns the traits of a sink.
func TraitsOf(s Sink) Traits {
	if t, ok := s.(Traiter); ok {
		return t.Traits()
	}
	return Traits{}
}

// Sink writes to one destination.
type Sink interface {
	// Put returns nil once the destination has the whole object, and otherwise an
	// error that it classified, an *UploadError, or ctx's. An object with the same
	// key is replaced, where the destination has keys. Put does not retry, blocks
	// at most until ctx ends or the destination stops making progress, and keeps
	// nothing of the object afterwards. It is safe for concurrent use.
	Put(ctx context.Context, o Object) error
}

// Namer is implemented by sinks whose destinations keep objects by name.
type Namer interface {
	// NameOf returns where Put writes an object: its key in the bucket, or its path.
	NameOf(o *Object) string
}

// nameOf returns where a sink writes an object, and the object's mere name where the
// destination has no such thing.
func nameOf(s Sink, o *Object) string {
	if n, ok := s.(Namer); ok {
		return n.NameOf(o)
	}
	return o.Name
}

// Tester is implemented by sinks whose destination would choke on the test upload,
// such as a table: Test finds out in another way whether an object could be written.
// Its errors are those of Put.
type Tester interface {
	Test(ctx context.Context) error
}

// UploadError says why a destination does not have an object.
type UploadError struct {
	// Status is the HTTP status, or, where there was no answer, one of the
	// synthetic ones below; 0 when neither fits.
	Status int
	// Text is the answer's body, or what went wrong instead: no addresses of ours. Its
	// start is shown to the job's owner, without the job's credentials.
	Text string
	// Permanent says that the destination understood and refused: the same object
	// will be refused again until somebody changes something.
	Permanent bool
	// RetryAfter is how long the destination asked to be left alone.
	RetryAfter time.Duration
	// Records are the places of the records that the destination refused, where it
	// took the others and said so. Nil when the object as a whole failed.
	Records []int
}

// Synthetic statuses, as Logpush shows them where there was no HTTP answer.
const (
	StatusConnectTimeout = 1102
	StatusNameUnresolved = 1105
	StatusTimeout        = 1106
)

func (e *UploadError) Error() string {
	switch {
	case e.Status == 0:
		return e.Text
	case e.Text == "":
		return fmt.Sprintf("status:%d", e.Status)
	}
	return fmt.Sprintf("%d %s", e.Status, e.Text)
}

const (
	answerBytesMax = 64 << 10 // of an answer are looked at
	shownBytesMax  = 256      // of it are shown
)

// TextOf returns an answer's body for UploadError.Text, on one line.
func TextOf(body []byte) string {
	body = body[:min(len(body), answerBytesMax)]
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "")), " ")
}

// shown words an error for the job's owner and for logs: without the credentials of
// conf, and with the start of what the destination said. Credentials go first: of one
// at the cut, the beginning would not be known for one.
func shown(conf string, err error) string {
	secrets := logjob.Redactor(conf)
	e, ok := errors.AsType[*UploadError](err)
	if !ok {
		return secrets.Replace(err.Error())
	}
	short := *e
	short.Text = startOf(secrets.Replace(e.Text))
	return secrets.Replace(strings.Replace(err.Error(), e.Error(), short.Error(), 1))
}

func startOf(text string) string {
	for i := range text {
		if i >= shownBytesMax {
			return text[:i] + "..."
		}
	}
	return text
}

// uploadMessage is the text for a job's error_message, as Logpush words it:
// "error 500: error pushing: error uploading to https: status:500".
func uploadMessage(conf string, err error) string {
	scheme, _, _ := strings.Cut(conf, "://")
	message := fmt.Sprintf("error pushing: error uploading to %s: %s", scheme, shown(conf, err))
	if e, ok := errors.AsType[*UploadError](err); ok && e.Status != 0 {
		message = fmt.Sprintf("error %d: %s", e.Status, message)
		if e.Status == http.StatusRequestEntityTooLarge {
			message += "; the destination refuses the batch for its size: lower the job's max_upload_bytes or max_upload_records"
		}
	}
	return message
}

// Sinks is the table of destinations: the scheme of a destination_conf and the
// constructor of its sink. A constructor connects to nothing; its error says
// which parameter is missing or bad, without the value of a secret one.
type Sinks map[string]func(*url.URL) (Sink, error)

// Open returns the sink of a destination. Its error is an *errs.Error.
func (s Sinks) Open(conf string) (Sink, error) {
	u, err := logjob.ParseDestination(conf)
	if err != nil {
		return nil, err
	}
	open, ok := s[u.Scheme]
	if !ok {
		return nil, badDestination("destination_conf has the scheme %q; possible are %s",
			u.Scheme, strings.Join(slices.Sorted(maps.Keys(s)), ", "))
	}
	sink, err := open(u)
	if err != nil {
		return nil, badDestination("destination_conf cannot be used: %s", logjob.Redactor(conf).Replace(err.Error()))
	}
	return sink, nil
}

// TestUpload writes test.txt.gz to a destination, as Logpush does before it
// accepts one. Its error is an *errs.Error that says what the destination did.
func (s Sinks) TestUpload(ctx context.Context, conf string) error {
	sink, err := s.Open(conf)
	if err != nil {
		return err
	}
	if tester, ok := sink.(Tester); ok {
		err = tester.Test(ctx)
	} else {
		err = putTest(ctx, sink)
	}
	return testError(ctx, conf, err)
}

// testError words what a destination did to a first upload.
func testError(ctx context.Context, conf string, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		scheme, _, _ := strings.Cut(conf, "://")
		return badDestination("error validating destination: error writing object: error uploading to %s: %s",
			scheme, shown(conf, err))
	}
	return nil
}

// NeedsChallenge reports whether who names a destination must prove to own it. Its
// error is an *errs.Error.
func (s Sinks) NeedsChallenge(conf string) (bool, error) {
	sink, err := s.Open(conf)
	return err == nil && TraitsOf(sink).Challenge, err
}

// PutChallenge writes text to a destination that NeedsChallenge, in a file called
// name, and returns the file's path within the bucket. Its errors are TestUpload's.
func (s Sinks) PutChallenge(ctx context.Context, conf, name, text string) (string, error) {
	sink, err := s.Open(conf)
	if err != nil {
		return "", err
	}
	o := Object{Name: name, Date: time.Now(), Body: []byte(text), Plain: true, ContentType: "text/plain; charset=utf-8", Dataset: schema.Dataset}
	return nameOf(sink, &o), testError(ctx, conf, sink.Put(ctx, o))
}

// putTest writes the content that Logpush documents.
func putTest(ctx context.Context, sink Sink) error {
	const content = `{"content":"tests"}`
	o := Object{Name: "test.txt.gz", Date: time.Now(), Records: 1, ContentType: "application/x-ndjson", Dataset: schema.Dataset}
	if TraitsOf(sink).Records {
		o.Items = []Item{{Text: []byte(content), Time: o.Date}}
		return sink.Put(ctx, o)
	}
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	if _, err := zip.Write([]byte(content)); err != nil {
		return fmt.Errorf("compress the test upload: %w", err)
	}
	if err := zip.Close(); err != nil {
		return fmt.Errorf("compress the test upload: %w", err)
	}
	o.Body = body.Bytes()
	return sink.Put(ctx, o)
}

func badDestination(format string, args ...any) error {
	const codeBadValue = 1002
	return errs.New(errs.Invalid, codeBadValue, format, args...).At("/destination_conf")
}
