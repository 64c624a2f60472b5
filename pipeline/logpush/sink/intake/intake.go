// Package intake holds the destinations that are reached over HTTP: any receiver
// (https), and the intakes of log services. They have one table of schemes, one way
// to read a destination_conf, and one POST with one reading of what its answer means.
//
// What every request has in common:
//
//   - Any 2xx takes the batch. 408, 425, 429 and 5xx leave it with us: it comes
//     again, after a pause that doubles up to a minute, or as long as Retry-After
//     asks. Any other answer, redirects among them, refuses it.
//   - Tidegate-Batch-Id names a batch for good. The same batch may come twice, so
//     a receiver that has it already may answer 200 and forget it.
//   - Tidegate-Job-Id, Tidegate-Dataset and Tidegate-Records tell where it comes
//     from and how many records it has.
//   - Before a job is accepted, one test record comes without job and batch id:
//     {"content":"tests"}.
//
// Parameters header_<Name>=<value> of a destination_conf become headers and are
// not sent in the URL. Redirects are not followed: they would take the credentials
// along.
package intake

import (
	"fmt"
	"maps"
	"net/url"
	"slices"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// Options of every destination.
type Options struct {
	Egress egress.Policy

	iam string // where IBM exchanges keys for tokens, for tests; IBM's own when empty
}

// kind is what one scheme needs.
type kind struct {
	rules rules
	open  func(*endpoint, params, Options) (logpush.Sink, error)
}

// kinds is the table of schemes.
var kinds = map[string]kind{
	"https":       {rules{anyParameter: true, taken: []string{paramSecret, paramCompression}}, openHTTPS},
	"http":        {rules{anyParameter: true, taken: []string{paramSecret, paramCompression}}, openHTTPS},
	"splunk":      {splunkRules, openSplunk},
	"sentinelone": {sentineloneRules, openForward},
	"sumo":        {sumoRules, openForward},
	"datadog":     {datadogRules, openDatadog},
	"ibmcl":       {ibmRules, openIBM},
	"loki":        {lokiRules, openLoki},
	"otlp":        {otlpRules, openOTLP},
	"elastic":     {elasticRules, openElastic},
}

// Schemes returns the schemes that New takes, sorted.
func Schemes() []string { return slices.Sorted(maps.Keys(kinds)) }

// New returns the sink of a destination_conf with one of the Schemes. It connects
// to nothing.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	k, ok := kinds[u.Scheme]
	if !ok {
		return nil, fmt.Errorf("the scheme %q is none of an HTTP destination", u.Scheme)
	}
	e, p, err := parse(u, k.rules, options.Egress)
	if err != nil {
		return nil, err
	}
	return k.open(e, p, options)
}
