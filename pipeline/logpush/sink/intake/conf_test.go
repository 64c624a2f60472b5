package intake

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestRefusedDestinations(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		sinktest.Refused(t, func(u *url.URL) (logpush.Sink, error) { return New(u, Options{}) }, conf, want)
	}
	f("http://h/", "plain http")
	f("ftp://h/", "ftp")
	f("https:///path", "host")
	f("https://h/{SCRIPT}/{DATE}", "the path has {SCRIPT}, which only buckets and folders fill")
	f("elastic://h/logs-{HOUR}", "the path has {HOUR}, which only buckets and folders fill")
	f("https://h/?header_Bad%20Name=x", "does not name a header")
	f("https://h/?header_X=a%0d%0aEvil:%20b", "cannot have")
	f("https://h/?header_Content-Encoding=br", "cannot be set")
	f("https://h/?header_Host=other", "cannot be set")
	f("https://h/?header_tidegate-batch-id=1", "cannot be set")
	f("https://h/?header_X=1&header_x=2", "twice")
	f("https://h/?header_X=%zz", "URL-encoded")
	f("https://h/?header_Tidegate-Signature=x", "cannot be set")
	f("https://h/?hmac-secret=short", "hmac-secret must have 16")
	f("https://h/?hmac-secret=", "hmac-secret must have 16")
	f("https://h/?hmac-secret=0123456789abcdef&hmac-secret=fedcba9876543210", "twice")
	f("https://h/?compression=br", "compression must be")

	const channel = "channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11"
	f("splunk://h:8088/services/collector/raw?sourcetype=x&header_Authorization=Splunk%20t", "needs the parameter channel")
	f("splunk://h:8088/services/collector/raw?"+channel+"&header_Authorization=Splunk%20t", "needs the parameter sourcetype")
	f("splunk://h:8088/services/collector/raw?"+channel+"&sourcetype=x", "needs the parameter header_Authorization")
	f("splunk://h:8088/services/collector/raw?"+channel+"&sourcetype=x&header_Authorization=t", "Splunk%20<token>")
	f("splunk://h:8088/services/collector/raw?channel=1&sourcetype=x&header_Authorization=Splunk%20t", "GUID")
	f("splunk://h:8088/services/collector/event?"+channel+"&sourcetype=x&header_Authorization=Splunk%20t", "the path of splunk must be /services/collector/raw")
	f("splunk://h?"+channel+"&sourcetype=x&header_Authorization=Splunk%20t&insecure-skip-verify=yes", "true or false")
	f("splunk://h?"+channel+"&sourcetype=x&header_Authorization=Splunk%20t&insecure=true", "plain http")
	f("splunk://h?"+channel+"&sourcetype=x&header_Authorization=Splunk%20t&auto_extract_timestamp=1",
		`has no parameter "auto_extract_timestamp": possible are channel, header_<Name>, header_Authorization, host, index, insecure, insecure-skip-verify, source, sourcetype`)
	f("splunk:///services/collector/raw?"+channel+"&sourcetype=x&header_Authorization=Splunk%20t", "host")
	f("sentinelone://h/services/collector/raw?sourcetype=x", "needs the parameter header_Authorization")
	f("sentinelone://h/services/collector/event?header_Authorization=Bearer%20t", "path")
	f("sumo://h/receiver/v1/http/", "the path of sumo must be /receiver/v1/http/*")
	f("sumo://h/receiver/v1/http/code?a=b", `no parameter "a"`)
	f("datadog://h/api/v2/logs?ddsource=cloudflare", "needs the parameter header_DD-API-KEY")
	f("datadog://h/api/v1/series?header_DD-API-KEY=k", "/api/v2/logs or /v1/input")
	f("datadog://h/api/v2/logs?header_DD-API-KEY=k&ddtag=a", `no parameter "ddtag"`)
	f("ibmcl://h/logs/v1/singles", "needs the parameter ibm_api_key")
	f("ibmcl://h/logs/v1/bulk?ibm_api_key=k", "path")
	f("ibmcl://h/logs/v1/singles?ibm_api_key=k&header_Authorization=Bearer%20t", "its own token")
	f("loki://h?label_dataset=x", "sets this label itself")
	f("loki://h?label_1=x", "letters")
	f("loki://h?label___x=x", "letters")
	f("loki://h?label_a=", "needs a value")
	f("loki://h?label_=x", `no parameter "label_"`)
	f("loki://h?tenant=a%0ab", "tenant cannot be used")
	f("loki://h?tenant=a&header_X-Scope-OrgID=b", "twice")
	f("loki://h?structured-metadata=no", "true or false")
	f("otlp://h?format=json", `no parameter "format"`)
	f("elastic://h", "index or a data stream")
	f("elastic://h/_all", "index or a data stream")
	f("elastic://h/a/_doc", "index or a data stream")
	f("elastic://h/a?refresh=true", `no parameter "refresh"`)
	many := ""
	for i := range 13 {
		many += fmt.Sprintf("&label_a%d=x", i)
	}
	f("loki://h?tenant=a"+many, "more than 12")
}

// A destination_conf leads to the host that it names and nowhere else, and no
// error repeats a value.
func FuzzConf(f *testing.F) {
	for _, service := range services {
		f.Add(strings.Replace(service.conf, "HOST", "h.example", 1))
	}
	f.Add("https://h.example/?a=b&hmac-secret=0123456789abcdef&compression=none")
	f.Add("loki://h.example?label_a=b&label_%zz=c&tenant=%00")
	f.Fuzz(func(t *testing.T, conf string) {
		u, err := url.Parse(conf)
		if err != nil {
			return
		}
		host := u.Hostname()
		if e, _, err := parse(u, kinds[u.Scheme].rules, loopback.Egress); err == nil {
			if e.url.Hostname() != host || e.url.Scheme != "https" && e.url.Scheme != "http" {
				t.Fatalf("%q goes to %s", conf, &e.url)
			}
		}
		const secret = "s3cr3tv4lue"
		if strings.Contains(conf, secret) {
			return
		}
		u.RawQuery += "&header_X=%0a" + secret + "&tenant=%0a" + secret + "&unknown=" + secret
		if _, err := New(u, loopback); err != nil && strings.Contains(err.Error(), secret) {
			t.Fatalf("the error of %q repeats a value: %v", conf, err)
		}
	})
}
