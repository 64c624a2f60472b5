// Package h2spec holds a running gateway's HTTP/2 against RFC 7540 and RFC 7541, with
// the checker of that name.
package h2spec

import (
	"encoding/xml"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/reporter"
)

// The checks that may fail, and why: by the section, and what it does.
var exceptions = map[string]string{
	"http2/3.5: Sends invalid connection preface":                                                                                                           "in clear text it is a malformed HTTP/1.1 request, which is answered so before the connection is closed",
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                                                                    "net/http closes a connection that sets anything twice in one frame; no client does",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field":                                                               "it is answered 400, as RFC 9113, section 8.1.1, allows",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"":                                         "it is answered 400, too",
	"http2/8.1.2.6: Sends a HEADERS frame with the \"content-length\" header field which does not equal the DATA frame payload length":                      "the answer may come before the body is looked at; where a version reads it, the gateway's own tests see the reset",
	"http2/8.1.2.6: Sends a HEADERS frame with the \"content-length\" header field which does not equal the sum of the multiple DATA frames payload length": "the same",
}

// TestGateway checks the address in TIDEGATE_TEST_GATEWAY, over TLS if
// TIDEGATE_TEST_TLS is set.
func TestGateway(t *testing.T) {
	address := os.Getenv("TIDEGATE_TEST_GATEWAY")
	if address == "" {
		t.Skip("TIDEGATE_TEST_GATEWAY is not set: run TestHTTP2Spec of test/e2e")
	}
	host, portName, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(portName)
	if err != nil {
		t.Fatal(err)
	}
	conforms(t, host, port)
}

// runsMax is how often a check may lose a race with an answer that ends its stream
// before it has sent all: what does not conform fails every time.
const runsMax = 3

func conforms(t *testing.T, host string, port int) {
	var failed []string
	for run := range runsMax {
		now := check(t, host, port)
		if run == 0 {
			failed = now
		}
		failed = slices.DeleteFunc(failed, func(name string) bool { return !slices.Contains(now, name) })
		if len(failed) == 0 {
			return
		}
	}
	for _, name := range failed {
		t.Errorf("%s: the gateway does not conform", name)
	}
}

// check runs all checks and returns those that failed and are no exceptions.
func check(t *testing.T, host string, port int) (failed []string) {
	file := filepath.Join(t.TempDir(), "report.xml")
	_, err := h2spec.Run(&config.Config{
		Host: host, Port: port, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, JUnitReport: file,
		TLS: os.Getenv("TIDEGATE_TEST_TLS") != "", Insecure: true, // the certificate is the test's
	})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report reporter.JUnitTestReport
	if err := xml.Unmarshal(content, &report); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, suite := range report.TestSuites {
		for _, test := range suite.TestCases {
			name := test.Package + ": " + test.ClassName
			switch _, excepted := exceptions[name]; {
			case test.Skipped != nil:
				t.Errorf("%s was skipped", name)
			case test.Failure == nil && test.Error == nil:
				passed++
			case !excepted:
				failed = append(failed, name)
			}
		}
	}
	if passed < 130 {
		t.Errorf("%d checks passed; are they all there?", passed)
	}
	t.Logf("%d checks passed", passed)
	return failed
}
