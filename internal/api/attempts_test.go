package api

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestAttemptsUnderWayAreNotFailed(t *testing.T) {
	var a attempts
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	office := netip.MustParseAddr("192.0.2.1")
	var ends []func(bool)
	for range attemptsUnderWayMax {
		end, wait := a.begin(office, now)
		if wait > 0 {
			t.Fatalf("%d at once have to wait for %s", len(ends)+1, wait)
		}
		ends = append(ends, end)
	}
	if _, wait := a.begin(office, now); wait != time.Second {
		t.Errorf("one more waits for %s", wait)
	}
	for i, end := range ends {
		end(i < attemptsMax-1)
	}
	end, wait := a.begin(office, now)
	if wait > 0 {
		t.Fatalf("after %d that failed: %s", attemptsMax-1, wait)
	}
	end(true)
	if _, wait := a.begin(office, now.Add(time.Minute)); wait != attemptsWindow-time.Minute {
		t.Errorf("after %d that failed: %s", attemptsMax, wait)
	}
}

// Whoever fails from very many addresses keeps nobody else out.
func TestManyAddressesKeepNobodyOut(t *testing.T) {
	var a attempts
	now := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC)
	fail := func(n uint32, times int) (wait time.Duration) {
		var address [4]byte
		binary.BigEndian.PutUint32(address[:], 10<<24+n)
		for range times {
			var end func(bool)
			if end, wait = a.begin(netip.AddrFrom4(address), now); end != nil {
				end(true)
			}
		}
		return wait
	}
	for n := range uint32(attemptsAddressesMax) {
		fail(n, 1)
	}
	if wait := fail(attemptsAddressesMax, 3*attemptsMax); wait != 0 || len(a.of) != attemptsAddressesMax {
		t.Errorf("an address beyond them has to wait for %s; %d are held", wait, len(a.of))
	}
	if wait := fail(7, attemptsMax); wait != attemptsWindow {
		t.Errorf("one of them has to wait for %s", wait)
	}
	now = now.Add(attemptsWindow)
	if wait := fail(attemptsAddressesMax, attemptsMax+1); wait != attemptsWindow || len(a.of) != 1 {
		t.Errorf("when they are over, one has to wait for %s; %d are held", wait, len(a.of))
	}
}
