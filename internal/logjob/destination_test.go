package logjob

import (
	"net/url"
	"strings"
	"testing"
)

func TestMaskDestination(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		if got := MaskDestination(conf); got != want {
			t.Errorf("%s is masked as\n  %s, want\n  %s", conf, got, want)
		}
	}
	f("s3://lake/w/{DATE}?region=eu-west-1&access-key-id=AKIAABCDEFGH&secret-access-key=SK%2Fx&sse=AES256",
		"s3://lake/w/{DATE}?region=eu-west-1&access-key-id=AKIA***&secret-access-key=***&sse=AES256")
	f("https://h.example/in?header_Authorization=Bearer%20abc&tag=a&Api-Key=xyz", "https://h.example/*** (3 parameters)")
	f("https://user:p@ss@h.example:8443/in", "https://***@h.example:8443/***")
	f("https://user@h.example", "https://***@h.example")
	f("http://h.example/?tag=a", "http://h.example (1 parameter)")
	// A webhook's path is its password.
	f("https://hooks.example/services/T000/B000/XXXXXXXX", "https://hooks.example/***")
	f("splunk://h.example/in?header_Authorization=Bearer%20abc&tag=a&Api-Key=xyz", "splunk://h.example/in?header_Authorization=***&tag=a&Api-Key=***")
	f("azure://c/p?sv=2022&sig=abc", "azure://c/p?sv=2022&sig=***")
	f("sumo://endpoint.example/receiver/v1/http/CODE", "sumo://endpoint.example/***")
	f("datadog://intake.example/api/v2/logs?header_DD-API-KEY=abc&ddsource=cloudflare", "datadog://intake.example/api/v2/logs?header_DD-API-KEY=***&ddsource=cloudflare")
	f("ibmcl://i.ingress.eu-de.logs.cloud.ibm.com/logs/v1/singles?ibm_api_key=abc", "ibmcl://i.ingress.eu-de.logs.cloud.ibm.com/logs/v1/singles?ibm_api_key=***")
	f("loki://123:glc_abc@loki.example/loki/api/v1/push?tenant=red&label_env=prod", "loki://***@loki.example/loki/api/v1/push?tenant=red&label_env=prod")
	f("otlp://c.example:4318/v1/logs?header_api-key=abc&insecure=true", "otlp://c.example:4318/v1/logs?header_api-key=***&insecure=true")
	f("https://h/?header_A=%zz&x=1", "https://***")
	f("secret", "***")
	f("s3:/://key:secret@bucket/", "s3:/://***")
	f("file:///var/log/out", "file:///var/log/out")
}

// A credential never survives, wherever it stands in a destination and however that is
// broken: in a parameter that is named like one, as user or password, and in the path of what
// has it there.
func FuzzMaskDestination(f *testing.F) {
	f.Add("https://h.example/in?tag=a", "header_Authorization")
	f.Add("s3://bucket/{DATE}", "secret-access-key")
	f.Add("https://u:p@h/?a=%zz", "Api-Key")
	f.Add("?&#@", "X-Token")
	f.Add("sumo://h.example/receiver/v1/http/?a=b", "x")
	f.Add("loki://h.example:3100/loki?tenant=a", "x")
	f.Add("HTTPS://h.example/a?b#c", "x")
	f.Add("SUMO://h.example?b", "x")
	f.Fuzz(func(t *testing.T, conf, name string) {
		const secret = "s3cr3tv4lue"
		if strings.Contains(strings.ToLower(conf), secret) {
			return
		}
		f := func(what, conf string) {
			t.Helper()
			if got := MaskDestination(conf); strings.Contains(strings.ToLower(got), secret) {
				t.Errorf("%s: the secret of %q is in %q", what, conf, got)
			}
		}
		separator := "?"
		if strings.Contains(conf, "?") {
			separator = "&"
		}
		if secretName.MatchString(name) {
			f("a parameter", conf+separator+url.QueryEscape(name)+"="+secret)
		}
		scheme, rest, ok := strings.Cut(conf, "://")
		if !ok {
			return
		}
		f("the user", scheme+"://"+secret+"@"+rest)
		f("the password", scheme+"://u:"+secret+"@"+rest)
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		switch strings.ToLower(scheme) {
		case "http", "https":
			f("a parameter of a webhook", conf+separator+"a="+secret)
			fallthrough
		case "sumo":
			f("the path", scheme+"://"+rest[:end]+"/"+secret+rest[end:])
		}
	})
}

// ParseDestination never repeats the value in its error, and what it accepts has a scheme.
func FuzzParseDestination(f *testing.F) {
	f.Add("https://user:pa/ssw0rd@h.example/")
	f.Add("s3://lake/workers/{DATE}?region=eu-west-1&endpoint=minio.example&access-key-id=AK&secret-access-key=SK")
	f.Add("mailto:a@b")
	f.Add("file:///a/../b")
	f.Fuzz(func(t *testing.T, conf string) {
		u, err := ParseDestination(conf)
		if err != nil {
			if len(conf) > 20 && strings.Contains(err.Error(), conf) {
				t.Fatalf("the error repeats the value: %v", err)
			}
			return
		}
		if u.Scheme == "" || u.Opaque != "" {
			t.Fatalf("%q was accepted as %+v", conf, u)
		}
	})
}

func TestRedactorHidesWhatADestinationRepeats(t *testing.T) {
	f := func(conf, text, want string) {
		t.Helper()
		if got := Redactor(conf).Replace(text); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f("https://u:hunter22@h/?header_Authorization=Splunk%20abcd-1234&header_Content-Type=application/json&Api-Key=k%2Fkkk",
		`bad token abcd-1234 ("Splunk abcd-1234"), user u/hunter22, key k/kkk or k%2Fkkk, want application/json`,
		`bad token *** ("***"), user u/***, key *** or ***, want application/json`)
	f("https://gl-token-1@h/", "nobody is called gl-token-1", "nobody is called ***")
	f("https://hooks.example/services/T000/B0%20%C3%BC", "POST /services/T000/B0 ü or /services/T000/B0%20%C3%BC: no such hook", "POST *** or ***: no such hook")
	f("https://h.example/in/{DATE}/s3cr3t", "404: /in/20261009/s3cr3t not found", "404: ***20261009*** not found")
	f("https://h.example/s3c%2Fr3t/%7bDATE}/inbox", "404: /s3c%2Fr3t/20261009/inbox or /s3c/r3t/20261009/inbox not found", "404: ***20261009*** or ***20261009*** not found")
	f("https://h.example/", "cannot POST / here", "cannot POST / here")
	f("https://h.example/?hmac-secret=0123456789abcdef", "who is 0123456789abcdef", "who is ***")
	f("ibmcl://h.example/logs/v1/singles?ibm_api_key=k3y-k3y", "the key k3y-k3y is not known", "the key *** is not known")
	f("loki://123:glc_abc@h.example/", "glc_abc may not push", "*** may not push")
	f("splunk://h.example/?header_Authorization=Splunk%20t0k3n&channel=c", "token t0k3n of channel c", "token *** of channel c")
	// Any part of a webhook's URL may be what lets one in, whatever it is called.
	f("https://h.example/in?code=s3cr3t&tag=a", "404: cannot POST /in?code=s3cr3t&tag=a, no tag a", "404: cannot POST /in?***&***, no tag a")
	f("https://h.example/api/0123456789abcdef?code=Fe0123456789%2fabc", "no function 0123456789abcdef with Fe0123456789/abc or Fe0123456789%2fabc", "no function *** with *** or ***")
	f("https://h.example/in?s3cr3t&b4re", "404: cannot POST /in?s3cr3t&b4re, no s3cr3t", "404: cannot POST /in******, no s3cr3t")
	f("https://h.example/in?0123456789abcdef", "0123456789abcdef is not known", "*** is not known")
	f("sumo://h.example/receiver/v1/http/ZaVnC4dhaV0123456789", "the collector ZaVnC4dhaV0123456789 is gone", "the collector *** is gone")
	f("elastic://u:hunter22@h/logs", "Basic dTpodW50ZXIyMg== is not known", "Basic *** is not known")
	f("https://gl-token-1@h/", "Basic Z2wtdG9rZW4tMTo= is not known", "Basic *** is not known") // as a user without a password is sent
	// One that begins as another does must not keep its end.
	f("otlp://h/?header_X-Key=abcd&header_X-Token=abcdefgh&header_X-Auth=abcdefghijkl", "abcdefghijkl, abcdefgh, abcd", "***, ***, ***")
}
