package api

import (
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestOriginsThatCanBeReached(t *testing.T) {
	for _, text := range []string{
		"http://a", "http://a/", "https://shop.example.com/api/", "HTTP://Shop.Example.COM:1", "http://10.0.0.5:9000", "http://[::1]:65535/x",
		"http://[fe80::1%25eth0]/", "http://shop.example.com./", "http://my_service:8080", "http://1and1.example", "http://xn--bcher-kva.example",
		"http://" + strings.Repeat("a", 63) + ".example", "http://a-b--c", "http://h:0080",
		"h2c://10.0.0.5:50051", "h2c://grpc.internal",
	} {
		if err := checkOrigin(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestOriginsThatCannot(t *testing.T) {
	f := func(text, shown, why string) {
		t.Helper()
		err := checkOrigin(text)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), `"`+shown+`"`) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q and %q", text, err, shown, why)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the sentence %q tells the password", text, err)
		}
	}
	same := func(text, why string) { t.Helper(); f(text, text, why) }
	same("", "absolute")
	same("/x", "absolute")
	same("http:///x", "absolute")
	same("http:a", "absolute")
	same("ftp://a/", "absolute")
	same("h2://a/", "absolute")
	same("h2c:///x", "absolute")
	same("http://127.0.0.1:99999", "port")
	same("http://h:65536", "port")
	same("http://h:0", "port")
	same("http://h:", "port")
	same("http://[::1]:/", "port")
	same("http://:80", "host")
	same("http://a..b/", "host")
	same("http://.a/", "host")
	same("http://-/", "host")
	same("http://-a/", "host")
	same("http://a-.b/", "host")
	same("http://./", "host")
	same("http://a!b/", "host")
	same("http://300.1.2.3/", "host")
	same("http://bücher.example/", "host")
	same("http://a/?x=1", "query")
	same("http://a?", "query")
	same("http://a/#x", "query")
	same("http://h:x/", "not a URL")
	same("http://a b/", "not a URL")
	same("http://[::1/", "not a URL")
	f("http://a/%zz", "http://a/%zz", "not a URL")
	f("http://"+strings.Repeat("a", 64)+".example/", "http://"+strings.Repeat("a", 53)+"...", "host")
	f("http://"+strings.Repeat("a.", 127)+"a/", "http://"+strings.Repeat("a.", 26)+"a...", "host")
	f("http://a/"+strings.Repeat("b", 2048), "http://a/"+strings.Repeat("b", 51)+"...", "too long")

	f("http://me:secret@a/", "http://a/", "user name")
	f("http://secret@a:x/", "http://a:x/", "not a URL")
	f("http://me:secret@sec%ret@a/", "http://a/", "not a URL")
	f("http://me:secret@", "http://", "user name")
	f("//me:secret@a", "//a", "user name")
	f("me:secret@a", "a", "")
}
