package egress

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/addresses/rebind"
)

func platform(t *testing.T, brokers func(context.Context) ([]string, error), own ...string) *Platform {
	t.Helper()
	p, err := NewPlatform(own, brokers, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// later has all that p knows be so much older.
func later(p *Platform, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookedUp = p.lookedUp.Add(-d)
	for _, list := range p.known {
		for i := range list {
			list[i].at = list[i].at.Add(-d)
		}
	}
}

// dialled is what a policy that allows private addresses says of a connection, after the last answers of
// look-ups have become too old.
func dialled(t *testing.T, p *Platform, address string) error {
	t.Helper()
	p.mu.Lock()
	p.lookedUp = time.Time{}
	p.mu.Unlock()
	return Policy{AllowPrivate: true, AllowLoopback: true, Own: p}.control(t.Context(), "tcp", address, nil)
}

// The story: Kafka was made anew, at another address, and the list of what is refused was that of the start.
func TestAnAddressThatChangesIsRefusedAtOnce(t *testing.T) {
	before, after := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	rebind.Resolve(t, []netip.Addr{before}, []netip.Addr{after})
	p := platform(t, nil, rebind.Name+":9092")
	if err := dialled(t, p, "10.0.0.1:9092"); !errors.Is(err, errOwn) {
		t.Errorf("where it is: %v", err)
	}
	if err := dialled(t, p, "10.0.0.2:9092"); !errors.Is(err, errOwn) {
		t.Errorf("where it has gone: %v", err)
	}
	later(p, keepFor)
	for _, other := range []string{"10.0.0.1:9092", "10.0.0.2:9093"} {
		if err := dialled(t, p, other); err != nil {
			t.Errorf("%s, where it is not: %v", other, err)
		}
	}
}

// A name server may give some of a name's addresses at a time, in turn. Whoever dials the name may be given others than the last.
func TestAddressesThatTakeTurnsAreAllRefused(t *testing.T) {
	first, second := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	rebind.Resolve(t, []netip.Addr{first}, []netip.Addr{second}, []netip.Addr{first}, []netip.Addr{second})
	p := platform(t, nil, rebind.Name+":9092")
	look := func(want ...string) {
		t.Helper()
		p.Look(t.Context())
		for _, address := range []string{"10.0.0.1:9092", "10.0.0.2:9092"} {
			if got := p.Has(netip.MustParseAddrPort(address)); got != slices.Contains(want, address) {
				t.Errorf("%s is refused: %t", address, got)
			}
		}
	}
	look("10.0.0.1:9092")
	for range 3 {
		later(p, keepFor-time.Minute)
		look("10.0.0.1:9092", "10.0.0.2:9092")
	}
	later(p, time.Minute) // the first was last seen before that, and keepFor-time.Minute
	look("10.0.0.2:9092")
}

// However many addresses a name server makes up, those of the last answer and the newest of the others are known.
func TestAddressesOfANameAreBounded(t *testing.T) {
	var list []sighting
	now := time.Now()
	for i := range 2 * keepMax {
		now = now.Add(time.Millisecond)
		list = seen(list, []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}, now)
	}
	if len(list) != keepMax || list[0].at != now || list[keepMax-1].at != now.Add(-(keepMax-1)*time.Millisecond) {
		t.Errorf("%d are kept, from %v to %v", len(list), list[0], list[len(list)-1])
	}
	answer := make([]netip.Addr, 2*keepMax)
	for i := range answer {
		answer[i] = netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
	}
	if list = seen(list, answer, now); len(list) != len(answer) {
		t.Errorf("of an answer of %d %d are kept", len(answer), len(list))
	}
}

// What cannot be resolved may be anywhere in the own network.
func TestNothingPrivateIsReachedWhileANameIsUnknown(t *testing.T) {
	rebind.Resolve(t, []netip.Addr{netip.MustParseAddr("10.0.0.1")})
	p := platform(t, nil, rebind.Name+":9092", "gone.rebind.test:5432")
	err := dialled(t, p, "10.9.9.9:80")
	if !errors.Is(err, errUnsure) {
		t.Fatalf("a private address: %v", err)
	}
	if e := Classify(err); e.Permanent || strings.Contains(e.Text, "rebind") {
		t.Errorf("it tells of our network, or will not be tried again: %+v", e)
	}
	if err := dialled(t, p, "10.0.0.1:9092"); !errors.Is(err, errOwn) {
		t.Errorf("one of our own: %v", err)
	}
	for _, open := range []string{"1.1.1.1:443", "127.0.0.1:80"} {
		if err := dialled(t, p, open); err != nil {
			t.Errorf("%s: %v", open, err)
		}
	}
	p.names = p.names[:1]
	if err := dialled(t, p, "10.9.9.9:80"); err != nil {
		t.Errorf("when all can be resolved: %v", err)
	}
}

// Where the operator has named the platform's networks, a container that is stopped, and so has no
// name, stops no delivery. That a name server fails is no answer.
func TestAStoppedContainerStopsNothingWhereRangesAreNamed(t *testing.T) {
	rebind.Resolve(t, []netip.Addr{netip.MustParseAddr("10.0.0.1")})
	p := platform(t, nil, "gone.rebind.test:5432", "10.1.0.0/16")
	if err := dialled(t, p, "10.9.9.9:80"); err != nil {
		t.Errorf("a private address: %v", err)
	}
	if err := dialled(t, p, "10.1.2.3:80"); !errors.Is(err, errOwn) {
		t.Errorf("one in the range: %v", err)
	}
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}} // until the end of the test, when what was before rebind.Resolve comes back
	if err := dialled(t, p, "10.9.9.9:80"); !errors.Is(err, errUnsure) {
		t.Errorf("without a name server: %v", err)
	}
}

// The brokers that --kafka names are those to begin with; the cluster names all of them.
func TestBrokersOfTheClusterAreRefused(t *testing.T) {
	rebind.Resolve(t, []netip.Addr{netip.MustParseAddr("10.0.0.3")})
	answer, away := []string(nil), errors.New("no broker answers")
	p := platform(t, func(context.Context) ([]string, error) { return answer, away }, "10.0.0.1:9092")
	if err := dialled(t, p, "10.0.0.2:9092"); !errors.Is(err, errUnsure) {
		t.Errorf("before the brokers are known: %v", err)
	}
	answer, away = []string{"10.0.0.1:9092", "10.0.0.2:9092", rebind.Name + ":9092"}, nil
	own := []string{"10.0.0.1:9092", "10.0.0.2:9092", "10.0.0.3:9092"}
	for _, broker := range own {
		if err := dialled(t, p, broker); !errors.Is(err, errOwn) {
			t.Errorf("%s: %v", broker, err)
		}
	}
	answer, away = nil, errors.New("no broker answers")
	for _, broker := range own {
		if err := dialled(t, p, broker); !errors.Is(err, errOwn) {
			t.Errorf("%s, while Kafka is away: %v", broker, err)
		}
	}
	if err := dialled(t, p, "10.9.9.9:80"); err != nil {
		t.Errorf("while Kafka is away, a destination is refused: %v", err)
	}
}

// Origins are served while name servers and Kafka are away, so whether they are ours is known by
// the last look.
func TestWhetherAnAddressIsOursIsKnownWithoutAsking(t *testing.T) {
	before, after := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	rebind.Resolve(t, []netip.Addr{before}, []netip.Addr{after})
	p := platform(t, func(context.Context) ([]string, error) { return nil, errors.New("no broker answers") }, rebind.Name+":9092", "gone.rebind.test:5432", "10.1.0.0/16")
	f := func(want bool, list ...string) {
		t.Helper()
		for _, address := range list {
			if got := p.Has(netip.MustParseAddrPort(address)); got != want {
				t.Errorf("%s is ours: %t", address, got)
			}
		}
	}
	f(true, "10.1.2.3:80")
	f(false, "10.0.0.1:9092", "10.0.0.2:9092", "10.9.9.9:80")
	p.Look(t.Context())
	f(true, "10.1.2.3:80", "10.0.0.1:9092")
	f(false, "10.0.0.2:9092", "10.9.9.9:80", "10.0.0.1:80")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); !p.Has(netip.MustParseAddrPort("10.0.0.2:9092")); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("where it has gone is never known")
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var none *Platform
	if none.Has(netip.MustParseAddrPort("10.1.2.3:80")) {
		t.Error("nowhere has an address")
	}
}

func TestWhatIsRefused(t *testing.T) {
	f := func(own, address string, want bool) {
		t.Helper()
		if got := errors.Is(dialled(t, platform(t, nil, own), address), errOwn); got != want {
			t.Errorf("%s is refused for %s: %t", address, own, got)
		}
	}
	f("10.1.0.0/16", "10.1.2.3:80", true)
	f("10.1.0.0/16", "[::ffff:10.1.2.3]:80", true)
	f("10.1.0.0/16", "10.2.2.3:80", false)
	f("::ffff:10.1.0.0/112", "10.1.2.3:80", true)
	f("fd12::/32", "[fd12::1]:80", true)
	f("0.0.0.0/0", "1.1.1.1:443", true)
	f("10.1.2.3", "10.1.2.3:1", true)
	f("10.1.2.3:80", "10.1.2.3:81", false)
	f("fd12::1", "[fd12::1]:80", true)
	f("[fd12::1]", "[fd12::1]:80", true)
	f("[fd12::1]:80", "[fd12::1]:80", true)
	f("[fd12::1]:80", "[fd12::2]:80", false)
	f(":8123", "127.0.0.1:8123", true)
	for _, translated := range []string{"64:ff9b::a01:203", "64:ff9b:1::a01:203", "64:ff9b:1:abc::a01:203", "::ffff:0:a01:203"} {
		f("10.1.0.0/16", "["+translated+"]:80", true)
		f("10.1.2.3:80", "["+translated+"]:80", true)
		f("10.1.2.3:80", "["+translated+"]:81", false)
		f("10.2.0.0/16", "["+translated+"]:80", false)
		f("10.2.0.0/16", "["+translated+"%eth0]:80", false)
		f("10.1.0.0/16", "["+translated+"%eth0]:80", true)
		f(translated, "10.1.2.3:80", true) // as a name server of such a network (DNS64) says where the platform is
		f(translated, "["+translated+"]:80", true)
	}
	f("64:ff9b::/96", "[64:ff9b::a01:203]:80", true)
	f("64:ff9b::/96", "10.1.2.3:80", false)
	f(":8123", "[64:ff9b::7f00:1]:8123", true)
	for _, bad := range []string{"", "10.0.0.0/33", "kafka:", "kafka:0", "kafka:70000", "http://kafka:9092", "a b", "user@kafka"} {
		if err := Check(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
