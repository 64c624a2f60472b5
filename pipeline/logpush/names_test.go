package logpush_test

import (
	"net/url"
	"path"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/bucket"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/file"
	"tidegate/pipeline/logpush/sink/intake"
	"tidegate/schema"
)

// A preview shows an object under the name that a delivery gives it. It was made of the
// URL's path, which begins with the container at Azure, and of a folder it was no path.
func TestAPreviewNamesObjectsAsTheirSinkDoes(t *testing.T) {
	local := egress.Policy{AllowHTTP: true, AllowLoopback: true}
	buckets := func(u *url.URL) (logpush.Sink, error) {
		return bucket.New(u, bucket.Options{Egress: local, GoogleAmbient: true})
	}
	p := logpush.NewPreviews(logpush.Sinks{
		"s3": buckets, "r2": buckets, "gs": buckets, "azure": buckets,
		"file": func(u *url.URL) (logpush.Sink, error) {
			return file.New(u, file.Options{Roots: []string{"/srv/{JOB}", "/srv/logs"}})
		},
		"https": func(u *url.URL) (logpush.Sink, error) { return intake.New(u, intake.Options{Egress: local}) },
	}, nil, nil)
	const (
		keys      = "access-key-id=a&secret-access-key=b"
		signature = "sv=2024-11-04&ss=b&srt=o&sp=w&se=2099-01-01T00:00:00Z&sig=c2lnbmF0dXJl"
		endpoint  = "endpoint=http://127.0.0.1:1"
	)
	at := time.Now().UTC()
	f := func(conf, want string) {
		t.Helper()
		e := schema.TraceEvent{ScriptName: "shop", ScriptVersion: schema.ScriptVersion{ID: "v1"}, EventType: "fetch", EventTimestampMs: at.UnixMilli(), Outcome: "ok"}
		j := logjob.Job{ID: 42, AccountID: "a", Dataset: schema.Dataset, Revision: 1, DestinationConf: conf, OutputOptions: &logjob.OutputOptions{FieldNames: []string{"Outcome"}}}
		got, err := p.Preview(t.Context(), j, [][]byte{e.AppendJSON(nil)}, 1)
		if err != nil || len(got.Objects) != 1 {
			t.Errorf("%s: %d objects, error %v", conf, len(got.Objects), err)
			return
		}
		if folder, name := path.Split(got.Objects[0].Name); folder != want || name == "" {
			t.Errorf("%s: the object is called %s, want it in %q", conf, got.Objects[0].Name, want)
		}
	}
	f("s3://lake?region=eu-west-1&"+keys, "")
	f("s3://lake/logs/{JOB}/{SCRIPT}?region=eu-west-1&"+keys, "logs/42/shop/")
	f("s3://lake/logs/%7BSCRIPT%7D/%7BVERSION}?region=eu-west-1&"+keys, "logs/shop/v1/") // all were in the folder _
	f("s3://lake/logs?region=eu-west-1&"+keys+"&"+endpoint, "logs/")
	f("r2://lake/logs/{JOB}?account-id=0a1b&"+keys, "logs/42/")
	f("gs://lake/logs/{JOB}", "logs/42/")
	f("gs://lake/logs/{JOB}?"+endpoint, "logs/42/")
	f("azure://acme.blob.core.windows.net/lake?"+signature, "")
	f("azure://acme.blob.core.windows.net/lake/logs/{JOB}?"+signature, "logs/42/")
	f("azure://lake/logs/{JOB}?"+signature+"&"+endpoint, "logs/42/")
	f("file:///srv/logs", "/srv/logs/")
	f("file:///srv/logs/shop/{JOB}/", "/srv/logs/shop/42/")
	f("file:///srv/{JOB}/shop/{JOB}", "/srv/{JOB}/shop/42/")
	f("https://logs.example.com/{DATE}", "")
}
