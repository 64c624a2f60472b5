package deploy

import (
	"strings"
	"testing"
)

func TestServiceCallSurvivesItsHeader(t *testing.T) {
	f := func(c ServiceCall) {
		t.Helper()
		header := c.Header()
		if strings.ContainsFunc(header, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%+v: %q cannot be a header's value", c, header)
		}
		if got, err := ParseBinding(header); err != nil || got != c {
			t.Errorf("ParseBinding(%q) = %+v, %v; want %+v", header, got, err, c)
		}
		if got, err := ParseRPCHost(c.RPCHost()); err != nil || got != c {
			t.Errorf("ParseRPCHost(%q) = %+v, %v; want %+v", c.RPCHost(), got, err, c)
		}
	}
	f(ServiceCall{"0123", "shop", ""})
	f(ServiceCall{"0123", "shop-2_x", "Admin"})
	f(ServiceCall{"a&b=c", "sh op\r\n", "Größe$"})
}

func TestParseBindingRefuses(t *testing.T) {
	f := func(header string) {
		t.Helper()
		if got, err := ParseBinding(header); err == nil {
			t.Errorf("ParseBinding(%q) = %+v, without an error", header, got)
		}
	}
	f("")
	f("nonce=1&script=shop")
	f("nonce=&script=shop&entrypoint=")
	f("nonce=1&script=&entrypoint=")
	f("nonce=1&nonce=2&script=shop&entrypoint=")
	f("nonce=%zz&script=shop&entrypoint=")
}

func TestParseRPCHostRefuses(t *testing.T) {
	f := func(host string) {
		t.Helper()
		if got, err := ParseRPCHost(host); err == nil {
			t.Errorf("ParseRPCHost(%q) = %+v, without an error", host, got)
		}
	}
	f("")
	f(RPCHost)
	f("zz." + RPCHost)
	f("00." + RPCHost)
	f("example.com:443")
}

// Whoever reaches the bindings socket may send any host. What is taken is a call that is written as one, and
// means the same as its header.
func FuzzParseRPCHost(f *testing.F) {
	for _, c := range []ServiceCall{{"0123", "shop", ""}, {"a&b=c", "sh op\r\n", "Größe$"}} {
		f.Add(c.RPCHost())
		f.Add(c.Header())
	}
	f.Add("6e6f." + RPCHost)
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (ServiceCall, error){ParseRPCHost, ParseBinding} {
			c, err := parse(text)
			if err != nil {
				continue
			}
			byHost, errHost := ParseRPCHost(c.RPCHost())
			byHeader, errHeader := ParseBinding(c.Header())
			if errHost != nil || errHeader != nil || byHost != c || byHeader != c {
				t.Fatalf("%q is %+v, then %+v, %v by host and %+v, %v by header", text, c, byHost, errHost, byHeader, errHeader)
			}
		}
	})
}
