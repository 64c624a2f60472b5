package deploy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestParseStatusCodes(t *testing.T) {
	f := func(text string, in, out []int) {
		t.Helper()
		codes, err := ParseStatusCodes(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for _, status := range in {
			if !codes.Contains(status) {
				t.Errorf("%q does not hold %d", text, status)
			}
		}
		for _, status := range out {
			if codes.Contains(status) {
				t.Errorf("%q holds %d", text, status)
			}
		}
	}
	f("200", []int{200}, []int{199, 201, 0})
	f("2xx", []int{200, 299}, []int{199, 300})
	f("5XX", []int{500, 599}, []int{499, 600})
	f(" 200 ,301, 4xx", []int{200, 301, 400, 499}, []int{201, 300, 500})
}

func TestStatusCodesThatAreNone(t *testing.T) {
	for _, text := range []string{
		"", ",", "200,", "20", "2000", "099", "600", "6xx", "0xx", "xx", "x", "2xxx", "20x", "-1xx", "+20", "200-299", "2 xx", "２００",
		strings.Repeat("200,", statusCodesMax) + "200",
	} {
		if codes, err := ParseStatusCodes(text); err == nil {
			t.Errorf("%q passed for %v", text, codes)
		}
	}
}

// Whatever is taken holds only codes that exist, and at least one.
func FuzzParseStatusCodes(f *testing.F) {
	for _, seed := range []string{"200", "2xx", "200, 301,4XX", "", ",", "20x", "-99", "+99", "5xx,5xx"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		codes, err := ParseStatusCodes(text)
		if err != nil {
			return
		}
		held := 0
		for status := range 1000 {
			if codes.Contains(status) {
				held++
				if status < 100 || status > 599 {
					t.Errorf("%q holds %d", text, status)
				}
			}
		}
		if held == 0 {
			t.Errorf("%q holds nothing", text)
		}
	})
}

// A URL alone is written as ever, so that older routers and snapshots on disk agree
// with it.
func TestOriginOfOneURLIsWrittenAsEver(t *testing.T) {
	const text = `{"url":"http://10.0.0.5:9000"}`
	b, err := json.Marshal(Origin{URL: "http://10.0.0.5:9000"})
	if err != nil || string(b) != text {
		t.Errorf("got %s, %v", b, err)
	}
	var o Origin
	if err := json.Unmarshal([]byte(text), &o); err != nil || !reflect.DeepEqual(o, Origin{URL: "http://10.0.0.5:9000"}) {
		t.Errorf("got %+v, %v", o, err)
	}
}

// fullOrigin sets every member, which the test below makes sure of.
func fullOrigin() *Origin {
	none := 0
	m := DefaultMonitor()
	m.Header = map[string][]string{"Host": {"shop"}}
	m.ConsecutiveUp, m.ConsecutiveDown = 2, 3
	return &Origin{
		URL: "http://c", Endpoints: []Endpoint{{"http://a", 1}, {"http://b", 0.5}}, Monitor: &m,
		Timeouts: &OriginTimeouts{ConnectMS: 1, FirstByteMS: 2, BetweenBytesMS: 5, IdleMS: 3}, MaxRequests: 4, Retries: &none,
	}
}

// Each member counts: a backend must not be kept for an origin that has changed.
func TestOriginEqual(t *testing.T) {
	if !fullOrigin().Equal(fullOrigin()) || !(*Origin)(nil).Equal(nil) || fullOrigin().Equal(nil) {
		t.Error("equal origins are not, or others are")
	}
	var change func(o *Origin, v reflect.Value, name string)
	check := func(o *Origin, name string) {
		if o.Equal(fullOrigin()) || fullOrigin().Equal(o) {
			t.Errorf("a change of %s is not noticed", name)
		}
	}
	change = func(o *Origin, v reflect.Value, name string) {
		if v.IsZero() && name != ".Retries*" {
			t.Errorf("%s is not set", name)
		}
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		v.SetZero()
		if !before.IsZero() {
			check(o, name)
		}
		v.Set(before)
		switch v.Kind() {
		case reflect.Pointer:
			change(o, v.Elem(), name+"*")
		case reflect.Struct:
			for i := range v.NumField() {
				change(o, v.Field(i), name+"."+v.Type().Field(i).Name)
			}
		case reflect.Slice:
			for i := range v.Len() {
				change(o, v.Index(i), fmt.Sprintf("%s[%d]", name, i))
			}
		default:
		}
	}
	o := fullOrigin()
	for i, v := 0, reflect.ValueOf(o).Elem(); i < v.NumField(); i++ {
		change(o, v.Field(i), "."+v.Type().Field(i).Name)
	}
	o.Monitor.Header["Host"][0] = "other"
	check(o, "a header")
}

func TestSnapshotRefusesOriginsThatCannotBeServed(t *testing.T) {
	f := func(o Origin, want string) {
		t.Helper()
		s := Snapshot{Revision: 1, Scripts: []SnapshotScript{{AccountID: "a", Subdomain: "dev", Name: "shop", Versions: []SnapshotVersion{{ID: "v", Origin: &o}}}}}
		err := s.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	m := DefaultMonitor()
	f(Origin{URL: "http://a", Monitor: &m}, "")
	f(Origin{Endpoints: []Endpoint{{"http://a", 1}, {"http://b", 0.1}}}, "")
	f(Origin{}, "URL or endpoints")
	f(Origin{URL: "http://a", Endpoints: []Endpoint{{"http://a", 1}}}, "URL or endpoints")
	f(Origin{URL: "/a"}, "absolute")
	f(Origin{Endpoints: []Endpoint{{"http://a", 1}, {"b", 1}}}, "absolute")
	f(Origin{Endpoints: []Endpoint{{"http://a", 0}}}, "weight")
	f(Origin{Endpoints: []Endpoint{{"http://a", 1.5}}}, "weight")
	f(Origin{Endpoints: make([]Endpoint, EndpointsMax+1)}, "64")
	f(Origin{URL: "http://a", Monitor: &Monitor{ExpectedCodes: "2xx"}}, "interval")
	f(Origin{URL: "http://a", Monitor: &Monitor{Interval: 1, Timeout: 1, ExpectedCodes: "ok"}}, `"ok"`)
	// What would be a negative duration, at which a monitor's timer panics, or a bound
	// that nothing is below.
	f(Origin{URL: "http://a", Monitor: &Monitor{Interval: 1e10, Timeout: 1, ExpectedCodes: "2xx"}}, "interval")
	f(Origin{URL: "http://a", Monitor: &Monitor{Interval: 1, Timeout: 1e10, ExpectedCodes: "2xx"}}, "timeout")
	f(Origin{URL: "http://a", Monitor: &Monitor{Interval: 1, Timeout: 1, Retries: -1, ExpectedCodes: "2xx"}}, "retries")
	f(Origin{URL: "http://a", MaxRequests: -1}, "max_requests")
	f(Origin{URL: "http://a", Retries: new(-1)}, "retries")
	f(Origin{URL: "http://a", Timeouts: &OriginTimeouts{ConnectMS: -1}}, "time-out")
	f(Origin{URL: "http://a", Timeouts: &OriginTimeouts{FirstByteMS: 1e15}}, "time-out")
}
