package runtime

import (
	"testing"

	"tidegate/internal/deploy"
)

// Clear HTTP/1.1 lets requests go however many endpoints there are; what goes through
// http.Transport may be kept by it for a while.
func TestLetsGo(t *testing.T) {
	const http1, https, h2c = "http://127.0.0.1:1", "https://127.0.0.1:1", "h2c://127.0.0.1:1"
	f := func(want bool, urls ...string) {
		t.Helper()
		o := &deploy.Origin{URL: urls[0]}
		if len(urls) > 1 {
			o = &deploy.Origin{}
			for _, u := range urls {
				o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: u})
			}
		}
		b, ok := openOrigin(t, quickConfig(), o).(interface{ LetsGo() bool })
		if got := ok && b.LetsGo(); got != want {
			t.Errorf("%v: %t, want %t", urls, got, want)
		}
	}
	f(true, http1)
	f(true, http1, "http://127.0.0.1:2")
	f(false, https)
	f(false, h2c)
	f(false, http1, h2c)
	f(false, https, http1)
}
