package gateway_test

import (
	"testing"

	"tidegate/internal/deploy"
)

func TestWhichHostsAreServed(t *testing.T) {
	one := script([]string{origin(t, says("shop"))}, 100_000)
	one.Routes = []string{"shop.example.com/only/*", "*.wild.example.com/*", "*both.example.com/*", "off.dev.localhost/*"}
	one.Versions[0].Alias = "staging"
	off := deploy.SnapshotScript{AccountID: account, Subdomain: "dev", Name: "off", HostDisabled: true}
	e := start(t, snapshot(1, one, off))
	f := func(host string, names, serves bool) {
		t.Helper()
		if got := e.NamesHost(host); got != names {
			t.Errorf("%s is named: %v, want %v", host, got, names)
		}
		if got := e.ServesHost(host); got != serves {
			t.Errorf("%s is served: %v, want %v", host, got, serves)
		}
	}
	f("shop.dev.localhost", true, true)
	f("aaaaaaaa-shop.dev.localhost", true, true)
	f("staging-shop.dev.localhost", true, true)
	f("shop.example.com", true, true)
	f("both.example.com", true, true)
	f("a.both.example.com", false, true)
	f("a.b.wild.example.com", false, true)
	f("wild.example.com", false, false)
	f("off.dev.localhost", false, false)
	f("invented.dev.localhost", false, false)
	f("a.shop.example.com", false, false)
	f("", false, false)
}
