package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
)

// A destination takes nothing of one request over HTTP/2, while it answers others on the same
// connection. The upload hung for ever, without a word: each byte of the others was progress.
func TestARequestThatGetsNoRoomIsGivenUp(t *testing.T) {
	for limit := 100 * time.Millisecond; ; limit *= 10 { // for a machine that stands still for longer than the others may lie
		others := giveUp(t, limit)
		if others == nil {
			return
		}
		if t.Logf("within %s: %v", limit, others); limit > 5*time.Second {
			t.Fatal("the others were given up, too")
		}
	}
}

// giveUp has a request given up after limit, and returns what became of the others.
func giveUp(t *testing.T, limit time.Duration) (ofOthers error) {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" {
			<-over
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	client := Policy{AllowLoopback: true, SkipVerify: true, NoProgress: time.Minute}.Client()
	hurried := client.Transport.(patient)
	hurried.limit = limit
	client.Transport = hurried
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	post := func(path string, body []byte) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		if response.ProtoMajor != 2 {
			t.Errorf("the answer came over %s", response.Proto)
		}
		return response.Body.Close()
	}
	if err := post("/", []byte("x")); err != nil { // the connection is there
		return err
	}
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			if ofOthers = post("/", []byte("x")); ofOthers != nil {
				return
			}
		}
	})
	err := post("/hangs", make([]byte, 8<<20))
	close(over)
	others.Wait()
	if err == nil {
		t.Fatal("the request was taken")
	}
	if e := Classify(err); e.Status != logpush.StatusTimeout || ctx.Err() != nil {
		t.Errorf("the error is %v", err)
	}
	return ofOthers
}

// Who may be silent for longer, as ClickHouse is, may not let a request lie for longer, nor are
// its idle connections kept for longer: both bounds grew with it.
func TestSlowDestinationsTakeRequestsAsFast(t *testing.T) {
	fast, slow := (Policy{}).Client().Transport.(patient), (Policy{}).Slower(6).Client().Transport.(patient)
	if slow.limit != fast.limit || slow.IdleConnTimeout != fast.IdleConnTimeout {
		t.Errorf("a request may lie for %s, a connection for %s, want %s and %s", slow.limit, slow.IdleConnTimeout, fast.limit, fast.IdleConnTimeout)
	}
}

// A client that reads an answer to its end took as much memory as a destination liked, and
// hung for as long as one let its answer drip.
func TestAnswersAreBounded(t *testing.T) {
	babble := bytes.Repeat([]byte("x"), 64<<10)
	for _, c := range []struct {
		name    string
		policy  Policy
		handler http.HandlerFunc
		want    error
	}{
		{"without end", Policy{NoProgress: time.Hour}, func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(babble); err == nil; _, err = w.Write(babble) {
			}
		}, nil},
		{"dripping", Policy{NoProgress: time.Second}, func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(babble[:1]); err == nil; _, err = w.Write(babble[:1]) {
				if err := http.NewResponseController(w).Flush(); err != nil {
					return
				}
				<-time.After(time.Millisecond)
			}
		}, os.ErrDeadlineExceeded},
	} {
		for method, body := range map[string]io.Reader{http.MethodGet: nil, http.MethodPost: bytes.NewReader(babble)} {
			server := httptest.NewServer(c.handler)
			c.policy.AllowHTTP, c.policy.AllowLoopback = true, true
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL, body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := c.policy.Client().Do(request)
			if err != nil {
				t.Fatalf("%s, %s: %v", c.name, method, err)
			}
			n, err := io.Copy(io.Discard, response.Body)
			if !errors.Is(err, c.want) || n > answerBytesMax {
				t.Errorf("%s, %s: %d bytes came, and %v, want %v", c.name, method, n, err, c.want)
			}
			if err := response.Body.Close(); err != nil {
				t.Error(err)
			}
			server.Close()
		}
	}
}
