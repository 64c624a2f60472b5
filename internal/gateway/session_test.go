package gateway_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Browsers send the dashboard's session to every port of its host, the gateway's too: no
// version sees it, and no event.
func TestVersionsNeverSeeTheSessionOfTheDashboard(t *testing.T) {
	seen := make(chan []string, 1)
	h := func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header["Cookie"] }
	overEach(t, h, func(t *testing.T, s speaker) {
		n := 0
		f := func(want []string, cookies ...string) {
			t.Helper()
			var headers []string
			for _, line := range cookies {
				headers = append(headers, "Cookie", line)
			}
			s.do(t, http.MethodGet, "/", nil, headers...)
			select {
			case got := <-seen:
				if s.major == 2 && len(want) > 1 { // which has one line of them all
					want = []string{strings.Join(want, "; ")}
				}
				if !slices.Equal(got, want) {
					t.Errorf("of %q the origin saw %q, want %q", cookies, got, want)
				}
			case <-time.After(time.Minute):
				t.Fatalf("the origin was not asked with %q", cookies)
			}
			n++
			if event := s.events.nth(n); bytes.Contains(event.Event, []byte("s3cret")) {
				t.Errorf("the event tells the session: %s", event.Event)
			}
		}
		f(nil, "tidegate-session=s3cret")
		f(nil, "__Host-tidegate-session=s3cret")
		f([]string{"a=b; c=d"}, "a=b; tidegate-session=s3cret; c=d")
		f([]string{"a=b"}, "__Host-tidegate-session=s3cret; a=b; tidegate-session=s3cret")
		f([]string{"a=b"}, "tidegate-session=s3cret;a=b")
		f([]string{"a=b", "c=d"}, "a=b", "tidegate-session=s3cret", "c=d")
		f([]string{"my-tidegate-session=1; a=tidegate-session"}, "my-tidegate-session=1; a=tidegate-session")
		f([]string{"a=b"}, "a=b")
		f(nil)
	})
}
