package gateway_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

func TestRetiredGatewaySendsClientsElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "snapshot.json")
	sc := script([]string{origin(t, says("ok"))}, 100_000)
	broken := sc
	broken.Name, broken.Versions, broken.Splits = "broken", script([]string{"http://127.0.0.1:1"}).Versions, nil
	broken.Versions[0].ID = v2
	e := start(t, snapshot(1, sc, broken), func(c *gateway.Config, _ *gateway.Deps, _ *runtime.Config) { c.SnapshotFile = file })
	if a := e.get(t, shop+"/"); a.Close {
		t.Error("a response ends its connection before the gateway is retired")
	}
	waitFor(t, "the snapshot on disk", func() bool { b, err := os.ReadFile(file); return err == nil && strings.Contains(string(b), `"shop"`) })
	if !e.Warm() {
		t.Error("a gateway without Workers is not warm")
	}

	e.Retire()
	for _, url := range []string{shop + "/", "http://bbbbbbbb-broken.dev.localhost/"} {
		if a := e.get(t, url); !a.Close {
			t.Errorf("the response of %s, %s, does not end its connection", url, a.Status)
		}
	}
	c := dialFrames(t, e.addr, false)
	id := c.send(true, get("/")...)
	goAway := false
	for !goAway {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("before a GOAWAY: %v", err)
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			goAway = frame.ErrCode == http2.ErrCodeNo
		case *http2.RSTStreamFrame:
			t.Fatalf("stream %d was reset: %s", id, frame.ErrCode)
		}
	}

	e.control.set(snapshot(2, sc), nil)
	waitFor(t, "the next snapshot", func() bool { return e.Revision() == 2 })
	if a := e.get(t, shop+"/"); a.StatusCode != http.StatusOK {
		t.Errorf("the new snapshot answers %s", a.Status)
	}
	e.stop() // after which nothing is written
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"revision":1`) {
		t.Errorf("a retired gateway has written %s, %v", b, err)
	}
	if n := e.InFlight(); n != 0 {
		t.Errorf("%d requests are in flight", n)
	}
}
