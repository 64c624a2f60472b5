package gateway

import (
	"net/http"
	"testing"
	"time"
)

func TestGRPCTimeout(t *testing.T) {
	f := func(text string, want time.Duration) {
		t.Helper()
		if got, ok := grpcTimeout(text); got != want || ok != (want != 0) {
			t.Errorf("%q: got %s, %t, want %s", text, got, ok, want)
		}
	}
	f("1H", time.Hour)
	f("2M", 2*time.Minute)
	f("3S", 3*time.Second)
	f("49999u", 49_999*time.Microsecond)
	f("99999999n", 99_999_999)
	f("00000050m", 50*time.Millisecond)
	f("99999999H", (1<<63-1)/2)
	for _, text := range []string{"", "S", "50", "50x", "-5S", "+5S", " 5S", "5 S", "1.5S", "123456789m", "５S"} {
		f(text, 0)
	}
}

func TestWhatIsGRPC(t *testing.T) {
	f := func(major int, contentType string, want bool) {
		t.Helper()
		r := &http.Request{ProtoMajor: major, Header: http.Header{"Content-Type": {contentType}}}
		if got := isGRPC(r); got != want {
			t.Errorf("HTTP/%d with %q: %t", major, contentType, got)
		}
	}
	f(2, "application/grpc", true)
	f(2, "application/grpc+proto", true)
	f(2, "application/grpc;charset=utf-8", true)
	f(2, "application/grpc-web+proto", false)
	f(2, "application/json", false)
	f(2, "", false)
	f(1, "application/grpc", false)
}
