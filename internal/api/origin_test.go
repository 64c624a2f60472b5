package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

var originURLPlace = place{}.member("metadata").member("origin").member("url")

func TestOriginsThatCanBeReached(t *testing.T) {
	for _, text := range []string{
		"http://a", "http://a/", "https://shop.example.com/api/", "HTTP://Shop.Example.COM:1", "http://10.0.0.5:9000", "http://[::1]:65535/x",
		"http://[fe80::1%25eth0]/", "http://shop.example.com./", "http://my_service:8080", "http://1and1.example", "http://xn--bcher-kva.example",
		"http://" + strings.Repeat("a", 63) + ".example", "http://a-b--c", "http://h:0080",
		"h2c://10.0.0.5:50051", "h2c://grpc.internal",
	} {
		if _, err := checkOriginURL(text, originURLPlace); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestOriginsThatCannot(t *testing.T) {
	f := func(text, shown, why string) {
		t.Helper()
		_, err := checkOriginURL(text, originURLPlace)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), `"`+shown+`"`) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q and %q", text, err, shown, why)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the sentence %q tells the password", text, err)
		}
	}
	same := func(text, why string) { t.Helper(); f(text, text, why) }
	same("", "absolute")
	same("127.0.0.1:9000", "is not a URL, such as http://")
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

// decodeOrigin reads metadata.origin as an upload does.
func decodeOrigin(text string) (*deploy.Origin, error) {
	var b originBody
	at := place{}.member("metadata").member("origin")
	if err := decodeAt([]byte(text), &b, at); err != nil {
		return nil, err
	}
	return b.check(at)
}

func TestOriginsWithSeveralEndpoints(t *testing.T) {
	f := func(text string, want deploy.Origin) {
		t.Helper()
		got, err := decodeOrigin(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", text, diff)
		}
		// What is shown can be uploaded again, and means the same.
		shown, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeOrigin(string(shown)); err != nil || !again.Equal(got) {
			t.Errorf("%s came back as %s and then %+v, %v", text, shown, again, err)
		}
	}
	two, none, one := 2, 0, 1
	f(`{"url": "http://a"}`, deploy.Origin{URL: "http://a"})
	f(`{"endpoints": [{"url": "http://a"}]}`, deploy.Origin{Endpoints: []deploy.Endpoint{{URL: "http://a", Weight: 1}}})
	f(`{"endpoints": [{"url": "h2c://a", "weight": 1}, {"url": "h2c://b", "weight": 0.25}], "max_requests": 7, "retries": 2}`, deploy.Origin{
		Endpoints: []deploy.Endpoint{{URL: "h2c://a", Weight: 1}, {URL: "h2c://b", Weight: 0.25}}, MaxRequests: 7, Retries: &two,
	})
	f(`{"endpoints": [{"url": "http://a"}, {"url": "http://a/x"}, {"url": "http://a:81"}, {"url": "HTTP://b"}], "retries": 0, "timeouts": {}}`, deploy.Origin{
		Endpoints: []deploy.Endpoint{{URL: "http://a", Weight: 1}, {URL: "http://a/x", Weight: 1}, {URL: "http://a:81", Weight: 1}, {URL: "HTTP://b", Weight: 1}}, Retries: &none,
	})
	f(`{"url": "http://a", "timeouts": {"connect_ms": 1, "first_byte_ms": 2000, "between_bytes_ms": 30000, "idle_ms": 3600000}, "retries": null, "max_requests": null}`, deploy.Origin{
		URL: "http://a", Timeouts: &deploy.OriginTimeouts{ConnectMS: 1, FirstByteMS: 2000, BetweenBytesMS: 30_000, IdleMS: 3_600_000},
	})
	f(`{"url": "http://a", "monitor": {}}`, deploy.Origin{URL: "http://a", Monitor: &deploy.Monitor{
		Method: "GET", Path: "/", Interval: 60, Timeout: 5, Retries: 2, ExpectedCodes: "200",
	}})
	f(`{"url": "http://a", "retries": 1, "monitor": {"method": "HEAD", "path": "/healthz?full=1", "header": {"host": ["shop"], "X-A": ["1", "2"]},
		"interval": 1, "timeout": 60, "retries": 0, "expected_codes": "2xx, 301", "consecutive_up": 2, "consecutive_down": 3}}`, deploy.Origin{
		URL: "http://a", Retries: &one, Monitor: &deploy.Monitor{
			Method: "HEAD", Path: "/healthz?full=1", Header: map[string][]string{"Host": {"shop"}, "X-A": {"1", "2"}},
			Interval: 1, Timeout: 60, ExpectedCodes: "2xx, 301", ConsecutiveUp: 2, ConsecutiveDown: 3,
		},
	})
}

func TestOriginsThatAreRefusedByName(t *testing.T) {
	f := func(text, pointer string, parts ...string) {
		t.Helper()
		_, err := decodeOrigin(text)
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", text, err)
			return
		}
		if e.Pointer != "/metadata/origin"+pointer {
			t.Errorf("%s: the error is at %s, not at /metadata/origin%s: %v", text, e.Pointer, pointer, err)
		}
		for _, part := range append(parts, strings.NewReplacer("/", ".").Replace(pointer)) {
			if !strings.Contains(strings.NewReplacer("[", ".", "]", "").Replace(err.Error()), strings.NewReplacer("[", ".", "]", "").Replace(part)) {
				t.Errorf("%s: %q does not say %q", text, err, part)
			}
		}
	}
	endpoints := func(list string) string { return `{"endpoints": [` + list + `]}` }
	monitor := func(members string) string { return `{"url": "http://a", "monitor": {` + members + `}}` }
	f(`{}`, "", "names no server")
	f(`{"url": null}`, "", "names no server")
	f(`{"url": "http://a", "endpoints": [{"url": "http://b"}]}`, "", "both")
	f(`{"url": ""}`, "/url", "absolute")
	f(`{"url": "http://a", "balancer": "random"}`, "/balancer", "unknown", "endpoints, max_requests, monitor, retries, timeouts, url")
	f(endpoints(""), "/endpoints", "0 entries", "1 to 64")
	f(endpoints(strings.Repeat(`{"url": "http://a"},`, 64)+`{"url": "http://a"}`), "/endpoints", "65 entries")
	f(endpoints(`{"url": "http://a"}, {}`), "/endpoints/1/url", "absolute")
	f(endpoints(`{"url": "http://me:secret@a"}`), "/endpoints/0/url", "user name")
	f(endpoints(`{"url": "http://a"}, {"url": "https://b"}`), "/endpoints/1/url", `"https://b"`, "spoken to alike")
	f(endpoints(`{"url": "http://a"}, {"url": "h2c://b"}`), "/endpoints/1/url", "spoken to alike")
	for _, twin := range []string{"http://a", "http://A/", "http://a:80", "http://a:0080/", "http://a./", "HTTP://a"} {
		f(endpoints(`{"url": "http://a"}, {"url": "`+twin+`"}`), "/endpoints/1/url", "endpoints[0]", "once")
	}
	f(endpoints(`{"url": "https://[::1]"}, {"url": "https://[0:0::1]:443"}`), "/endpoints/1/url", "endpoints[0]")
	for _, weight := range []string{"0", "-1", "1.1", "1e308"} {
		f(endpoints(`{"url": "http://a", "weight": `+weight+`}`), "/endpoints/0/weight", "above 0")
	}
	f(endpoints(`{"url": "http://a", "weight": "1"}`), "/endpoints/0/weight", "number")
	f(endpoints(`{"url": "http://a", "name": "x"}`), "/endpoints/0/name", "unknown")
	f(`{"url": "http://a", "max_requests": 0}`, "/max_requests", "is 0", "from 1 to 1000000")
	f(`{"url": "http://a", "retries": 6}`, "/retries", "is 6", "from 0 to 5")
	f(`{"url": "http://a", "retries": -1}`, "/retries", "is -1")
	for _, name := range []string{"connect_ms", "first_byte_ms", "between_bytes_ms", "idle_ms"} {
		f(`{"url": "http://a", "timeouts": {"`+name+`": 0}}`, "/timeouts/"+name, "from 1 to 3600000")
		f(`{"url": "http://a", "timeouts": {"`+name+`": 3600001}}`, "/timeouts/"+name, "3600001")
	}
	for name, bad := range map[string]string{"interval": "0", "timeout": "61", "retries": "6", "consecutive_up": "-1", "consecutive_down": "101"} {
		f(monitor(`"`+name+`": `+bad), "/monitor/"+name, "is "+bad)
	}
	f(monitor(`"method": "POST"`), "/monitor/method", "GET or HEAD")
	f(monitor(`"type": "tcp"`), "/monitor/type", "unknown")
	for _, path := range []string{"", "health", "http://a/", "/a b", "/ü", "/#x", "/\\u007f", "/" + strings.Repeat("x", 2048)} {
		f(monitor(`"path": "`+path+`"`), "/monitor/path", "begin with /")
	}
	for _, codes := range []string{"", "ok", "2x", "200;201"} {
		f(monitor(`"expected_codes": "`+codes+`"`), "/monitor/expected_codes", `"`+codes+`"`)
	}
	f(monitor(`"header": {"A B": ["x"]}`), "/monitor/header/A B", "no header")
	f(monitor(`"header": {"Connection": ["close"]}`), "/monitor/header/Connection", "cannot be set")
	f(monitor(`"header": {"transfer-encoding": ["chunked"]}`), "/monitor/header/transfer-encoding", "cannot be set")
	f(monitor(`"header": {"x-a": ["1"], "X-A": ["2"]}`), "/monitor/header/x-a", "twice")
	f(monitor(`"header": {"X-A": []}`), "/monitor/header/X-A", "at least one")
	f(monitor(`"header": {"Host": ["a", "b"]}`), "/monitor/header/Host", "exactly one")
	f(monitor(`"header": {"Host": ["a b"]}`), "/monitor/header/Host/0", "can be sent")
	f(monitor(`"header": {"X-A": ["a\u000ab"]}`), "/monitor/header/X-A/0", "sent")
	f(monitor(`"header": {"X-A": ["`+strings.Repeat("x", 5000)+`"]}`), "/monitor/header", "4096")
	many := make([]string, 21)
	for i := range many {
		many[i] = fmt.Sprintf(`"X-%d": ["x"]`, i)
	}
	f(monitor(`"header": {`+strings.Join(many, ",")+`}`), "/monitor/header", "21 names")
}

// What is taken comes back the same when it is uploaded again as it is shown, and
// holds what a gateway asks of it.
func FuzzOrigin(f *testing.F) {
	for _, seed := range []string{
		`{"url": "http://a"}`, `{"endpoints": [{"url": "http://a"}, {"url": "http://b", "weight": 0.5}]}`,
		`{"url": "https://[::1]:443/x", "monitor": {"path": "/h", "header": {"Host": ["a"]}, "expected_codes": "2xx"}}`,
		`{"url": "h2c://a", "timeouts": {"idle_ms": 1}, "max_requests": 3, "retries": 0}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := decodeOrigin(text)
		if err != nil {
			return
		}
		shown, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeOrigin(string(shown))
		if err != nil || !again.Equal(o) {
			t.Errorf("%q came back as %s, then %+v, %v", text, shown, again, err)
		}
		s := deploy.Snapshot{Revision: 1, Scripts: []deploy.SnapshotScript{{
			AccountID: "a", Subdomain: "dev", Name: "shop", Versions: []deploy.SnapshotVersion{{ID: "v", Origin: o}},
		}}}
		if err := s.Validate(); err != nil {
			t.Errorf("%q passes here and not at a gateway: %v", text, err)
		}
	})
}

// The example of the documentation is an origin, and shows every member.
func TestDocumentedOrigin(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "extensions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Origins\n")
	_, example, _ := strings.Cut(section, "```json\n")
	example, _, _ = strings.Cut(example, "```")
	o, err := decodeOrigin(example)
	if err != nil {
		t.Fatalf("%s\n%v", example, err)
	}
	if len(o.Endpoints) < 2 || o.Monitor == nil || o.Timeouts == nil || o.MaxRequests == 0 || o.Retries == nil {
		t.Errorf("the example has become %+v", o)
	}
}
