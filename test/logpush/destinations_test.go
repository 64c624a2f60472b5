package logpush

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"tidegate/pipeline/logpush"
)

// destinations are those of the jobs, each of which fails now and then, before or
// after it took what it was sent.
type destinations struct {
	root             string
	uploads, refused atomic.Int64

	objects  *s3mem.Backend
	s3, post *httptest.Server

	mu       sync.Mutex
	received map[string]map[string]string // by path, by batch id
	repeated int
	differ   error
}

func newDestinations(t *testing.T, root string) *destinations {
	t.Helper()
	d := &destinations{root: root, objects: s3mem.New(), received: map[string]map[string]string{}}
	if err := d.objects.CreateBucket("logs"); err != nil {
		t.Fatal(err)
	}
	d.s3 = httptest.NewServer(d.unreliable(gofakes3.New(d.objects).Server()))
	d.post = httptest.NewServer(d.unreliable(http.HandlerFunc(d.receive)))
	t.Cleanup(d.s3.Close)
	t.Cleanup(d.post.Close)
	return d
}

// confs are one destination a job.
func (d *destinations) confs() []string {
	s3 := "?region=us-east-1&access-key-id=k&secret-access-key=s&endpoint=" + url.QueryEscape(d.s3.URL)
	return []string{
		"file://" + d.root + "/plain/{DATE}",
		"file://" + d.root + "/parts/{SCRIPT}/{VERSION}",
		"s3://logs/plain" + s3,
		"s3://logs/parts/{SCRIPT}" + s3,
		d.post.URL + "/http",
		"items://" + strings.TrimPrefix(d.post.URL, "http://"),
	}
}

// unreliable counts, delays, and fails a twentieth of what comes, half of that
// when it was done.
func (d *destinations) unreliable(behind http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.uploads.Add(1)
		time.Sleep(time.Duration(rand.IntN(15)) * time.Millisecond) // a destination takes its time
		switch rand.IntN(40) {
		case 0:
			behind.ServeHTTP(httptest.NewRecorder(), r)
		case 1:
		default:
			behind.ServeHTTP(w, r)
			return
		}
		d.refused.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
}

// receive takes a batch over HTTP.
func (d *destinations) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
		body, err = unzip(body)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest) // it was broken off: the client is dead
		return
	}
	id := r.Header.Get("Tidegate-Batch-Id")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.received[r.URL.Path] == nil {
		d.received[r.URL.Path] = map[string]string{}
	}
	if before, ok := d.received[r.URL.Path][id]; ok {
		d.repeated++
		if before != string(body) {
			d.differ = fmt.Errorf("batch %s of %s was repeated with other content", id, r.URL.Path)
		}
	}
	d.received[r.URL.Path][id] = string(body)
}

func (d *destinations) repeats() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.repeated
}

// complete requires each event below want exactly once at each destination; at
// receivers once by batch.
func (d *destinations) complete(want int) error {
	for _, name := range []string{"plain", "parts"} {
		got, err := folder(filepath.Join(d.root, name))
		if err == nil {
			err = once("the folder "+name, got, want)
		}
		if err != nil {
			return err
		}
		if got, err = d.keys(name + "/"); err == nil {
			err = once("the bucket's folder "+name, got, want)
		}
		if err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, path := range []string{"/http", "/items"} {
		var all []int
		for _, text := range d.received[path] {
			got, err := numbers(text)
			if err != nil {
				return err
			}
			all = append(all, got...)
		}
		if err := once(path, all, want); err != nil {
			return err
		}
	}
	return d.differ
}

// keys reads all objects of the bucket below a folder.
func (d *destinations) keys(prefix string) (all []int, err error) {
	list, err := d.objects.ListBucket("logs", &gofakes3.Prefix{HasPrefix: true, Prefix: prefix}, gofakes3.ListBucketPage{})
	if err != nil {
		return nil, err
	}
	for _, o := range list.Contents {
		object, err := d.objects.GetObject("logs", o.Key, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(object.Contents)
		if err != nil {
			return nil, err
		}
		got, err := unzipped(body)
		if err != nil {
			return nil, fmt.Errorf("object %s: %w", o.Key, err)
		}
		all = append(all, got...)
	}
	return all, nil
}

func unzip(body []byte) ([]byte, error) {
	zip, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(zip)
}

func unzipped(body []byte) ([]int, error) {
	text, err := unzip(body)
	if err != nil {
		return nil, err
	}
	return numbers(string(text))
}

// items is a sink of a destination that takes records one by one.
type items struct{ host string }

func (items) Traits() logpush.Traits { return logpush.Traits{Records: true, MaxRecords: 100} }

func (s items) Put(ctx context.Context, o logpush.Object) error {
	var text bytes.Buffer
	for _, item := range o.Items {
		text.Write(item.Text)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.host+"/items", &text)
	if err != nil {
		return err
	}
	r.Header.Set("Tidegate-Batch-Id", o.BatchID)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return &logpush.UploadError{Text: "no answer"}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return &logpush.UploadError{Status: answer.StatusCode}
	}
	return nil
}
