package intake

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/pipeline/logpush/sink/sinktest"
)

// arrived is what the collector of test/collector says of a record.
type arrived struct {
	Receiver, Severity, Body string
	Time                     time.Time
	Resource, Attributes     map[string]any
}

// The receivers of the OpenTelemetry collector read what we send as we meant it.
func TestReceiversOfTheCollector(t *testing.T) {
	collector := os.Getenv("TIDEGATE_TEST_COLLECTOR")
	if collector == "" {
		t.Skip("TIDEGATE_TEST_COLLECTOR names no collector: make test-real starts one")
	}
	var addresses map[string]string
	if err := json.Unmarshal(get(t, collector+"/addresses"), &addresses); err != nil {
		t.Fatal(err)
	}
	o := sinktest.Items(time.Now().Format(time.RFC3339Nano), `{"Outcome":"ok","Logs":["ü"]}`+"\n"+`{"Outcome":"exception"}`+"\n")
	o.Date = time.Now()
	for i := range o.Items {
		o.Items[i].Time = o.Date.Add(time.Duration(i) * time.Millisecond)
	}
	file := sinktest.Object(o.Name, string(sinktest.Content(o))+"\n")

	f := func(scheme string, check func(got []arrived)) {
		t.Helper()
		address, ok := addresses[scheme]
		if !ok {
			t.Fatalf("the collector has no receiver %s", scheme)
		}
		before := len(arrivedBy(t, collector, scheme))
		s := openService(t, scheme, address, loopback)
		sent := file
		if services[scheme].texts != nil {
			sent = o
		}
		if err := s.Put(t.Context(), sent); err != nil {
			t.Fatalf("%s: %v", scheme, err)
		}
		got := arrivedBy(t, collector, scheme)[before:]
		slices.SortStableFunc(got, func(a, b arrived) int { return a.Time.Compare(b.Time) })
		if len(got) != len(o.Items) {
			t.Fatalf("%s: %d records arrived, want %d", scheme, len(got), len(o.Items))
		}
		for i, item := range o.Items {
			if got[i].Body != string(item.Text) {
				t.Errorf("%s: record %d is %s, want %s", scheme, i, got[i].Body, item.Text)
			}
		}
		check(got)
	}
	value := func(in map[string]any, name string, want any) {
		t.Helper()
		if in[name] != want {
			t.Errorf("%s is %v in %v, want %v", name, in[name], in, want)
		}
	}
	atTheRightTime := func(got []arrived, precision time.Duration) {
		t.Helper()
		for i := range got {
			if at, want := got[i].Time.Truncate(precision), o.Items[i].Time.Truncate(precision); !at.Equal(want) {
				t.Errorf("record %d is of %s, want %s", i, at, want)
			}
		}
	}
	f("splunk", func(got []arrived) { value(got[0].Resource, "com.splunk.sourcetype", "x") })
	f("datadog", func(got []arrived) {
		value(got[1].Attributes, "status", "error")
		value(got[1].Attributes, "service", "shop")
		value(got[1].Attributes, "timestamp", float64(o.Items[1].Time.UnixMilli()))
	})
	f("loki", func(got []arrived) {
		atTheRightTime(got, time.Millisecond) // below it, records of the same one are told apart
		value(got[1].Attributes, "service_name", "shop")
		value(got[1].Attributes, "outcome", "exception")
		value(got[1].Attributes, "dataset", "workers_trace_events")
	})
	f("otlp", func(got []arrived) {
		atTheRightTime(got, time.Nanosecond)
		value(got[1].Resource, "service.name", "shop")
		value(got[1].Resource, "service.version", o.Items[1].Version)
		value(got[1].Attributes, "tidegate.outcome", "exception")
		if got[0].Severity != "INFO" || got[1].Severity != "ERROR" {
			t.Errorf("the severities are %s and %s", got[0].Severity, got[1].Severity)
		}
	})
}

func get(t *testing.T, address string) []byte {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %s, %v", address, response.Status, err)
	}
	return body
}

func arrivedBy(t *testing.T, collector, receiver string) []arrived {
	t.Helper()
	var list []arrived
	lines := json.NewDecoder(strings.NewReader(string(get(t, collector))))
	for {
		var one arrived
		if err := lines.Decode(&one); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		if one.Receiver == receiver {
			list = append(list, one)
		}
	}
}
