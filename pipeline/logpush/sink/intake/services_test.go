package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func decode(t *testing.T, body []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(body, to); err != nil {
		t.Fatalf("the body is not JSON: %v: %.200s", err, body)
	}
}

// textsOfDatadog returns the records of a body as lines, as sinktest.Content has
// them; so do its like beside the tests of other services.
func textsOfDatadog(t *testing.T, body []byte) []byte {
	t.Helper()
	var logs []struct{ Message string }
	decode(t, body, &logs)
	var texts [][]byte
	for _, l := range logs {
		texts = append(texts, []byte(l.Message))
	}
	return lines(texts)
}

func lines(texts [][]byte) []byte { return bytes.Join(texts, []byte("\n")) }

// inOrder returns texts by their times, which have the same number of digits.
func inOrder(texts map[string][]byte) []byte {
	var ordered [][]byte
	for _, at := range slices.Sorted(maps.Keys(texts)) {
		ordered = append(ordered, texts[at])
	}
	return lines(ordered)
}

func putTo(t *testing.T, scheme string, o logpush.Object) (*http.Request, []byte) {
	t.Helper()
	r := receive(t)
	if err := openService(t, scheme, r.Listener.Addr().String(), loopback).Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return r.only(t)
}

func TestEveryServiceGetsTheTestUpload(t *testing.T) {
	for scheme, service := range services {
		r := receive(t)
		sinks := logpush.Sinks{scheme: func(*url.URL) (logpush.Sink, error) {
			return openService(t, scheme, r.Listener.Addr().String(), loopback), nil
		}}
		if err := sinks.TestUpload(t.Context(), scheme+"://h/"); err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		q, body := r.only(t)
		texts := unzip(t, body)
		if service.texts != nil {
			texts = service.texts(t, texts)
		}
		if string(texts) != `{"content":"tests"}` || q.Header.Get(HeaderBatchID)+q.Header.Get(HeaderJobID) != "" {
			t.Errorf("%s got %s with the headers %v", scheme, texts, q.Header)
		}
	}
}

func TestSplunkRequest(t *testing.T) {
	r := receive(t)
	conf := "splunk://" + r.Listener.Addr().String() + "/services/collector/raw?channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11" +
		"&insecure-skip-verify=false&sourcetype=cloudflare%3Ajson&header_Authorization=Splunk%20t0k3n&insecure=true"
	if err := open(t, conf, loopback).Put(t.Context(), sinktest.Object("a", "a")); err != nil {
		t.Fatal(err)
	}
	q, _ := r.only(t)
	if got, want := q.URL.String(), "/services/collector/raw?channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11&sourcetype=cloudflare%3Ajson"; got != want {
		t.Errorf("the URL is %s, want %s", got, want)
	}
	if q.Header.Get("Authorization") != "Splunk t0k3n" || q.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the headers are %v", q.Header)
	}
}

func TestSplunkMayHaveItsOwnCertificate(t *testing.T) {
	server := httptest.NewTLSServer(receive(t))
	defer server.Close()
	conf := "splunk://" + server.Listener.Addr().String() + "?channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11" +
		"&sourcetype=x&header_Authorization=Splunk%20t0k3n&insecure-skip-verify="
	if err := open(t, conf+"true", loopback).Put(t.Context(), sinktest.Object("a", "a")); err != nil {
		t.Error(err)
	}
	if e := uploadError(t, open(t, conf+"false", loopback).Put(t.Context(), sinktest.Object("a", "a"))); !strings.Contains(e.Text, "certificate") {
		t.Errorf("an unknown certificate gave %v", e)
	}
}

func TestDatadogRequest(t *testing.T) {
	f := func(parameters, url, service string) {
		t.Helper()
		r := receive(t)
		o := sinktest.Items("a", `{"Outcome":"<ok>"}`+"\n"+`"exception",1`+"\n")
		if err := open(t, "datadog://"+r.Listener.Addr().String()+parameters, loopback).Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		q, body := r.only(t)
		if got := q.URL.String(); got != url {
			t.Errorf("the URL is %s, want %s", got, url)
		}
		if q.Header.Get("Dd-Api-Key") != "k3y" || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the headers are %v", q.Header)
		}
		at := o.Date.UnixMilli()
		want := fmt.Sprintf(`[{"timestamp":%d,"status":"info"%s,"message":"{\"Outcome\":\"<ok>\"}"},{"timestamp":%d,"status":"error"%[2]s,"message":"\"exception\",1"}]`,
			at, service, at+1)
		if got := string(unzip(t, body)); got != want {
			t.Errorf("the body is\n%s, want\n%s", got, want)
		}
	}
	f("/v1/input?header_DD-API-KEY=k3y&ddsource=cloudflare&service=web&host=h&ddtags=env%3Aprod,team%3Ared&insecure=true",
		"/v1/input?ddsource=cloudflare&service=web&host=h&ddtags=env%3Aprod,team%3Ared", "")
	f("?insecure=true&header_DD-API-KEY=k3y", "/api/v2/logs", `,"service":"shop"`)
}

// What stands around records must fit into what the cap leaves, when each byte of
// them is escaped.
func TestDatadogBatchesStayBelowItsLimit(t *testing.T) {
	traits := datadog{}.Traits()
	const around = len(`,{"timestamp":1790000000000,"status":"error","service":"","message":""}`) + 63
	if most := 2*int(traits.MaxBytes) + traits.MaxRecords*around + 2; most > 5_000_000 {
		t.Errorf("a batch may have %d bytes", most)
	}
}
