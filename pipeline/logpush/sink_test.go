package logpush

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

func TestTestUpload(t *testing.T) {
	b := newBucket()
	sinks := Sinks{"bucket": func(u *url.URL) (Sink, error) {
		if u.Host == "" {
			return nil, errors.New("the bucket is missing")
		}
		return b, nil
	}}
	if err := sinks.TestUpload(t.Context(), "bucket://b/{DATE}"); err != nil {
		t.Fatal(err)
	}
	o := b.objects["test.txt.gz"]
	if got := unzip(t, o.Body); got != `{"content":"tests"}` {
		t.Errorf("the test upload is %s", got)
	}
	if o.BatchID != "" || o.JobID != 0 {
		t.Errorf("the test upload claims to be batch %q of job %d", o.BatchID, o.JobID)
	}
	if want := time.Now().UTC().Format("20060102"); !strings.HasPrefix(o.Key("/{DATE}"), want) {
		t.Errorf("the test upload goes to %s", o.Key("/{DATE}"))
	}

	refused := func(conf string, kind errs.Kind, message string) {
		t.Helper()
		err := sinks.TestUpload(t.Context(), conf)
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != kind || e.Code != 1002 || e.Pointer != "/destination_conf" || !strings.Contains(e.Message, message) {
			t.Errorf("%s gave %#v, want %q", conf, err, message)
		}
		if strings.Contains(err.Error(), "hunter22") {
			t.Errorf("a credential is in %s", err)
		}
	}
	refused("tape://b/", errs.Invalid, `the scheme "tape"; possible are bucket`)
	refused("bucket:///path", errs.Invalid, "the bucket is missing")
	refused("nonsense", errs.Invalid, "not a URL")
	b.fail = func(Object) error { return &UploadError{Status: 403, Text: "key hunter22 is bad", Permanent: true} }
	refused("bucket://b/?token=hunter22", errs.Invalid,
		"error validating destination: error writing object: error uploading to bucket: 403 key *** is bad")
}

func TestUploadMessages(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if got := uploadMessage("https://h/", err); got != want {
			t.Errorf("the message is %s, want %s", got, want)
		}
	}
	f(&UploadError{Status: 500}, "error 500: error pushing: error uploading to https: status:500")
	f(&UploadError{Status: 415, Text: `{"message":"wrong"}`}, `error 415: error pushing: error uploading to https: 415 {"message":"wrong"}`)
	f(&UploadError{Status: 413, Text: "too large", Permanent: true}, "error 413: error pushing: error uploading to https: 413 too large; "+
		"the destination refuses the batch for its size: lower the job's max_upload_bytes or max_upload_records")
	f(&UploadError{Status: StatusConnectTimeout, Text: "connection timeout"}, "error 1102: error pushing: error uploading to https: 1102 connection timeout")
	f(&UploadError{Text: "connection failed: connection refused"}, "error pushing: error uploading to https: connection failed: connection refused")
}

func TestTextOfABody(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		if got := TextOf([]byte(body)); got != want {
			t.Errorf("the text is %q, want %q", got, want)
		}
	}
	f("", "")
	f(" a\r\n\tb ", "a b")
	f("a\xffb", "ab")
	f(strings.Repeat("ü", 200), strings.Repeat("ü", 200))
}

// The story: a destination's answer repeated a request's header. The answer was cut to
// what is shown before the token was looked for, and the token's beginning stayed.
func TestCredentialsAreHiddenBeforeAnAnswerIsCut(t *testing.T) {
	const token = "Q123456789abcdefghij"
	conf := "https://h/?header_Authorization=Bearer%20" + token
	f := func(before int) {
		t.Helper()
		failure := &UploadError{Status: 400, Permanent: true, Text: TextOf([]byte(strings.Repeat("ü", before/2) + token + strings.Repeat("x", 300)))}
		sinks := Sinks{"https": func(*url.URL) (Sink, error) {
			return putter(func(context.Context, Object) error { return failure }), nil
		}}
		_, resent := sinks.SendLetter(t.Context(), conf, "d", &logjob.DeadLetter{})
		for where, got := range map[string]string{
			"the job's message": uploadMessage(conf, failure), "a wrapped error": shown(conf, fmt.Errorf("try: %w", failure)),
			"the test upload": sinks.TestUpload(t.Context(), conf).Error(), "a letter that is sent again": resent.Error(),
		} {
			if strings.Contains(got, token[:1]) || !strings.HasSuffix(got, "...") || len(got) > 400 {
				t.Errorf("%s shows %s", where, got)
			}
		}
	}
	for _, before := range []int{0, 236, 238, 250, 254, 256, 258} {
		f(before)
	}
}

// Metadata that is not ours, or of another version, is no plan.
func FuzzParseMark(f *testing.F) {
	f.Add("")
	f.Add(`{"enabled_at":1,"plan":{"revision":2,"end":3,"from":4,"until":5}}`)
	f.Add(`{"enabled_at":1,"revision":2,"plans":[{"begin":1,"end":3,"from":4,"until":5},{"begin":3,"end":4,"from":4,"until":6,"done":true}]}`)
	f.Add(`{"end":3}`)
	f.Add(`{"enabled_at":1,"newest":1700000000000}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, metadata string) {
		m := parseMark(1, metadata)
		again := parseMark(1, m.String())
		if again.EnabledAt != m.EnabledAt || again.Newest != m.Newest || again.Revision != m.Revision || !slices.Equal(again.Plans, m.Plans) {
			t.Fatalf("%+v became %+v", m, again)
		}
	})
}

func TestKeys(t *testing.T) {
	o := Object{Name: "x.log.gz", Date: time.Date(2026, 10, 9, 23, 59, 59, 0, time.UTC), JobID: 7, Script: "shop", Version: "v/../1"}
	f := func(o Object, folder, want string) {
		t.Helper()
		if got := o.Key(folder); got != want {
			t.Errorf("the key in %s is %s, want %s", folder, got, want)
		}
	}
	f(o, "", "x.log.gz")
	f(o, "/logs/{DATE}/{HOUR}/", "logs/20261009/23/x.log.gz")
	f(o, "/job={JOB}/{SCRIPT}/{VERSION}", "job=7/shop/v_.._1/x.log.gz")
	f(Object{Name: "x", Script: "..", Version: "{DATE}"}, "/{JOB}/{SCRIPT}/{VERSION}", "_/_/{DATE}/x")
}
