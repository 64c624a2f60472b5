package app

import (
	"errors"
	"net"
	"strings"
	"testing"
)

// Nobody listens at --kafka: what the client says names an address, and no flag.
func TestVerifyOfNobodySaysWhatToCheck(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(t.Context(), VerifyConfig{Kafka: []string{address}, ClickHouse: "http://" + address + "/tidegate", Limit: 1})
	if _, ok := errors.AsType[Undecided](err); !ok {
		t.Fatalf("it ended with %v", err)
	}
	for _, part := range []string{address, "check --kafka and --clickhouse"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}
