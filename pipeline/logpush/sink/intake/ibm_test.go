package intake

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestIBMRequest(t *testing.T) {
	own := `{"applicationName":"ibm-platform-log","subsystemName":"internet-svcs:logpush","text":{"Outcome":"ok"}}`
	o := sinktest.Items("a", own+"\n"+`{"Outcome":"exception"}`+"\ntext\n")
	q, body := putTo(t, "ibmcl", o)
	if q.URL.RawQuery != "" || q.Header.Get("Authorization") != "Bearer t0k3n" {
		t.Errorf("%s with the headers %v", q.URL, q.Header)
	}
	at := o.Items[1].Time.UnixMilli()
	want := fmt.Sprintf(`[%s,{"applicationName":"tidegate","subsystemName":"shop","severity":5,"timestamp":%d,"text":{"Outcome":"exception"}},`+
		`{"applicationName":"tidegate","subsystemName":"shop","severity":3,"timestamp":%d,"text":"text"}]`, own, at, at+1)
	if got := string(unzip(t, body)); got != want {
		t.Errorf("the body is\n%s, want\n%s", got, want)
	}
}

// What stands around a record must fit into what the cap leaves, for the longest
// script name.
func TestIBMBatchesStayBelowItsLimit(t *testing.T) {
	item := logpush.Item{Text: []byte("{}"), Time: time.Now(), Script: strings.Repeat("s", 63), Outcome: "exception"}
	traits := (*ibm)(nil).Traits()
	around := len(appendIBM([]byte(","), &item)) - len(item.Text)
	if most := int(traits.MaxBytes) + traits.MaxRecords*around + 2; most > 2_000_000 {
		t.Errorf("a batch may have %d bytes", most)
	}
}

func TestIBMTokens(t *testing.T) {
	var fetched, refused atomic.Int32
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":"t0k3n%d","expires_in":3600}`, fetched.Add(1))
	}))
	defer tokens.Close()
	var valid atomic.Value
	valid.Store("Bearer t0k3n1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		if q.Header.Get("Authorization") != valid.Load() {
			refused.Add(1)
			http.Error(w, "bad "+q.Header.Get("Authorization"), http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	options := loopback
	options.iam = tokens.URL
	s := open(t, "ibmcl://"+server.Listener.Addr().String()+"?ibm_api_key=k3y&insecure=true", options)
	put := func() error { return s.Put(t.Context(), sinktest.Items("a", "a\n")) }
	for range 2 {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	if n := fetched.Load(); n != 1 {
		t.Errorf("%d tokens were fetched for two batches, want 1", n)
	}
	// The token is taken back: a new one does, and the batch does not fail.
	valid.Store("Bearer t0k3n2")
	if err := put(); err != nil || fetched.Load() != 2 || refused.Load() != 1 {
		t.Errorf("with a token taken back: %v, %d fetched, %d refused", err, fetched.Load(), refused.Load())
	}
	// No token does: the error comes after one new try, and tells no token.
	valid.Store("none")
	e := uploadError(t, put())
	if e.Status != http.StatusUnauthorized || !e.Permanent || strings.Contains(e.Text, "t0k3n") || refused.Load() != 3 {
		t.Errorf("with no good token: %+v, %d refused", e, refused.Load())
	}
}

func TestIBMKeysThatAreRefused(t *testing.T) {
	f := func(status int, body string, wantStatus int, permanent bool) {
		t.Helper()
		tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		defer tokens.Close()
		options := loopback
		options.iam = tokens.URL
		s := open(t, "ibmcl://127.0.0.1:1?ibm_api_key=k3y&insecure=true", options)
		e := uploadError(t, s.Put(t.Context(), sinktest.Items("a", "a\n")))
		if e.Status != wantStatus || e.Permanent != permanent || !strings.Contains(e.Text, "ibm_api_key") {
			t.Errorf("IAM's %d gave %+v", status, e)
		}
	}
	f(400, `{"errorMessage":"Provided API key could not be found."}`, 401, true)
	f(503, "", 503, false)
	f(200, `{"access_token":""}`, 0, false)
	f(200, `<html>`, 0, false)
}

func textsOfIBM(t *testing.T, body []byte) []byte {
	t.Helper()
	var elements []struct{ Text json.RawMessage }
	decode(t, body, &elements)
	var texts [][]byte
	for _, element := range elements {
		if text := ""; json.Unmarshal(element.Text, &text) == nil {
			element.Text = []byte(text)
		}
		texts = append(texts, element.Text)
	}
	return lines(texts)
}

// A lifetime that no duration can hold came out as one that had ended, or as another's.
func TestIBMTokensAreBelievedForADay(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{3600: time.Hour, 1 << 40: 24 * time.Hour, math.MaxInt64: 24 * time.Hour, -5: 0, math.MinInt64: 0} {
		tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"access_token":"t0k3n","expires_in":%d}`, seconds)
		}))
		s := &ibm{endpoint: &endpoint{client: tokens.Client()}, iam: tokens.URL}
		if _, got, err := s.exchange(t.Context()); err != nil || got != want {
			t.Errorf("expires_in %d is %v, %v; want %v", seconds, got, err, want)
		}
		tokens.Close()
	}
}

// ibmTokens gives tokens away, and returns where.
func ibmTokens(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.FormValue("grant_type") != "urn:ibm:params:oauth:grant-type:apikey" || q.FormValue("apikey") != "k3y" {
			http.Error(w, `{"errorMessage":"Provided API key could not be found."}`, http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `{"access_token":"t0k3n","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
