package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"tidegate/schema"
)

// Each event reaches the client before the next one is made.
func TestStreamsByEachProtocol(t *testing.T) {
	next := make(chan struct{})
	h := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n", i)
			flush(w)
			<-next
		}
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		resp, err := s.client.Do(s.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for i := range 3 {
			if line, err := r.ReadString('\n'); line != fmt.Sprintf("data: %d\n", i) || err != nil {
				t.Fatalf("got %q, %v", line, err)
			}
			next <- struct{}{}
		}
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		wantEvent(t, s.events.nth(1), schema.OutcomeOK, "", 200)
	})
}

// Both directions at once, and more than any buffer on the way holds.
func TestLargeBodiesByEachProtocol(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		flush(w)
		_, _ = io.Copy(w, r.Body)
	}
	content := make([]byte, 16<<20)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		for i, body := range []io.Reader{bytes.NewReader(content), io.MultiReader(bytes.NewReader(content))} {
			resp, err := s.client.Do(s.request(t, "PUT", "/", body))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			n, err := io.Copy(sum, resp.Body)
			_ = resp.Body.Close()
			if want := sha256.Sum256(content); err != nil || !bytes.Equal(sum.Sum(nil), want[:]) {
				t.Errorf("%d of %d bytes came back, %v", n, len(content), err)
			}
			wantEvent(t, s.events.nth(i+1), schema.OutcomeOK, "", 200)
		}
	})
}

// A backend that answers before the body is there is heard, and the next request
// gets its own answer.
func TestEarlyAnswerByEachProtocol(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.WriteString(w, "early")
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		for i := range 3 {
			pr, pw := io.Pipe()
			resp, err := s.client.Do(s.request(t, "POST", "/", pr))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_, _ = resp.Body.Close(), pw.Close()
			if string(body) != "early" || err != nil {
				t.Errorf("got %q, %v", body, err)
			}
			wantEvent(t, s.events.nth(i+1), schema.OutcomeOK, "", 200)
		}
	})
}

func TestClientLeavesByEachProtocol(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/during" {
			_, _ = io.WriteString(w, "first")
			flush(w)
		}
		arrived <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		for i, want := range []int{0, http.StatusOK} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := []string{"/before", "/during"}[i]
			if path == "/before" {
				go func() { <-arrived; cancel() }()
			}
			resp, err := s.client.Do(s.request(t, "GET", path, nil).WithContext(ctx))
			if path == "/during" {
				if err != nil {
					t.Fatal(err)
				}
				<-arrived
				cancel()
				_ = resp.Body.Close()
			} else if err == nil {
				t.Fatal("the request succeeded")
			}
			<-gone // the backend is told
			wantEvent(t, s.events.nth(i+1), schema.OutcomeCanceled, "", want)
		}
	})
}

// A response that breaks off must not look whole, and over HTTP/2 takes no other
// one with it.
func TestBrokenResponseByEachProtocol(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			_, _ = io.WriteString(w, "who")
			flush(w)
			close(arrived)
			<-release
			_, _ = io.WriteString(w, "le")
			return
		}
		_, _ = io.WriteString(w, "half")
		flush(w)
		panic(http.ErrAbortHandler)
	}
	overEach(t, h, func(t *testing.T, s speaker) {
		arrived, release = make(chan struct{}), make(chan struct{})
		whole := make(chan string, 1)
		go func() {
			resp, err := s.client.Do(s.request(t, "GET", "/whole", nil))
			if err != nil {
				whole <- err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			whole <- fmt.Sprint(string(body), err)
		}()
		<-arrived
		resp, err := s.client.Do(s.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if _ = resp.Body.Close(); string(body) != "half" || err == nil {
			t.Errorf("got %q, %v, want half and an error", body, err)
		}
		wantEvent(t, s.events.nth(1), schema.OutcomeResponseStreamDisconnected, "reset", 200)
		close(release)
		if got := <-whole; got != "whole<nil>" {
			t.Errorf("the other response was %q", got)
		}
		wantEvent(t, s.events.nth(2), schema.OutcomeOK, "", 200)
	})
}

// A WebSocket is HTTP/1.1's, in clear text and over TLS.
func TestWebSocketOverHTTP1(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/1.1 over TLS"} {
		t.Run(protocol, func(t *testing.T) {
			s := speak(t, start(t, snapshot(1, script([]string{origin(t, echoSwitch)}, 100_000))), protocol)
			resp, err := s.client.Do(s.request(t, "GET", "/", nil, "Connection", "Upgrade", "Upgrade", "websocket"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			c, ok := resp.Body.(io.ReadWriter)
			if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("got %d", resp.StatusCode)
			}
			for _, text := range []string{"first", "second"} {
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(text))
				if _, err := io.ReadFull(c, got); string(got) != text || err != nil {
					t.Fatalf("got %q, %v, want %q", got, err, text)
				}
			}
			_ = resp.Body.Close()
			wantEvent(t, s.events.nth(1), schema.OutcomeOK, "", http.StatusSwitchingProtocols)
		})
	}
}
