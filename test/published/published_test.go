// Package published compares openapi.yaml, against which every answer is
// validated, with what Cloudflare publishes of the same calls. Cloudflare's own
// OpenAPI document has many megabytes and no releases; cloudflare-go is generated
// from it, and test/sdk/go.mod pins a release. So the facts are read from its
// source: method and path of each call, and of the answer which members are
// required, what type each has, and which values.
package published

import (
	"regexp"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"tidegate/schema"
)

// exceptions are the differences that we know of.
var exceptions = []struct{ difference, why string }{
	{`: result(\[\])?\.max_upload_(bytes|records|interval_seconds) may have any value, not only \["0"\]$`,
		"published is 0 or a range; the SDK has kept the 0 alone"},
	{`^\w+WorkerVersions?: result(\[\])?\.package_dependencies\[\]\.(name|installedVersion|packageJsonVersion) is missing$`,
		"shown as it was sent, and not looked at"},
	{`^\w+WorkerVersions?: result(\[\])?\.cache_options\.enabled is missing$`,
		"shown as it was sent, and not looked at"},
	{`^listTails: result is array, not object$`,
		"published is one tail, but a script may have several"},
}

// onlyHere are the operations that the SDK has no call for.
var onlyHere = []struct {
	why        string
	operations []string
}{
	{"additions: docs/extensions.md", []string{
		"cancelReplay", "claimCron", "createReplay", "deleteReplay", "getReplay", "listReplays", "replayJob", "controlRamp", "deleteAffinity", "deleteDeadLetter", "deleteLogpushAlerts", "getJobHealth", "getLogpushAlerts", "putLogpushAlerts", "queryGraph", "deletePolicy", "getAffinity", "getBundle", "getMetrics", "getModule", "getPolicy", "getRamp",
		"getDeadLetter", "getDeadLetterContent", "getSampling", "getSnapshot", "createInstantLogs", "listInstantLogs", "listDeadLetters", "resendDeadLetter", "resendDeadLetters", "testJob", "testNewJob",
		"getWholeSnapshot", "getDecision", "listDecisions", "listNotifications", "testNotify", "listPolicyRevisions", "backtestPolicy", "getEvidence", "getDefaultPolicy", "putDefaultPolicy", "deleteDefaultPolicy", "listDefaultPolicyRevisions", "patchAccount", "putAffinity", "putPolicy", "putReports", "putSampling",
		"compareVersions", "createDeletion", "getDeletion", "listDeletions", "deleteAccountRedaction", "deleteRedaction", "getAccountRedaction", "getOverview", "getRay", "getRedaction", "listEvents", "listExceptions", "listServing", "getSystemHealth", "listAuditLogs", "listCalls", "listFilterKeys", "listJobHealth", "putRouter", "putAccountRedaction", "putRedaction", "watchEvents",
		"beginAtIdentityProvider", "beginSession", "createSessionLink", "endSession", "getIdentityProvider", "getSession"}},
	{"wrangler calls them, and nobody publishes them", []string{
		"deleteService", "domainChangeset", "findSubdomain", "getEnvironment", "getEnvironmentBindings", "getEnvironmentRoutes",
		"getEnvironmentSubdomain", "getReferences", "getRoutes", "getService", "listContainerApplications", "listTailConsumption",
		"patchLatestVersion", "putRoutes", "putScriptDomains"}},
	{"published after this SDK; refused by name", []string{"createTransformer", "deleteTransformer", "getTransformer", "getTransformerContent",
		"listTransformerVersions", "listTransformers", "previewTransformer", "putTransformer"}},
	{"older names of what is published", []string{"getContent", "getDomainRecord", "getUsageModel", "listDomainRecords", "putUsageModel"}},
	{"in Cloudflare's documentation, but not in its OpenAPI document", []string{"listDefaultFields", "listZoneDefaultFields"}},
}

func load(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(schema.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func sdkCalls(t *testing.T) []call {
	t.Helper()
	s, err := readSDK()
	if err != nil {
		t.Fatal(err)
	}
	calls, err := s.calls()
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

// TestAnswersAreAsPublished also fails for an exception that is none any more.
func TestAnswersAreAsPublished(t *testing.T) {
	found, unknown := differences(load(t), sdkCalls(t))
	for _, e := range exceptions {
		pattern := regexp.MustCompile(e.difference)
		before := len(found)
		found = slices.DeleteFunc(found, pattern.MatchString)
		if len(found) == before {
			t.Errorf("nothing differs as %s says: take it out of exceptions", pattern)
		}
	}
	for _, difference := range found {
		t.Error(difference)
	}
	var want []string
	for _, reason := range onlyHere {
		want = append(want, reason.operations...)
	}
	slices.Sort(want)
	if !slices.Equal(unknown, want) {
		t.Errorf("the SDK has no call for %q; onlyHere has %q", unknown, want)
	}
}

// TestDifferencesAreFound breaks the document in every way that the comparison is
// there to find.
func TestDifferencesAreFound(t *testing.T) {
	calls := sdkCalls(t)
	f := func(want string, change func(named func(string) *openapi3.Schema)) {
		t.Helper()
		doc := load(t)
		before, _ := differences(doc, calls)
		change(func(name string) *openapi3.Schema { return doc.Components.Schemas[name].Value })
		found, _ := differences(doc, calls)
		if slices.Contains(before, want) || !slices.Contains(found, want) {
			t.Errorf("not found: %s", want)
		}
	}
	type named = func(string) *openapi3.Schema

	f("getDeployment: result.strategy is missing", func(n named) { delete(n("Deployment").Properties, "strategy") })
	f("listDeployments: result.deployments[].versions[].percentage is missing", func(n named) { delete(n("Split").Properties, "percentage") })
	f("getDeployment: result.created_on may be missing", func(n named) {
		n("Deployment").Required = slices.DeleteFunc(n("Deployment").Required, func(s string) bool { return s == "created_on" })
	})
	f("getZoneRoute: errors is missing", func(n named) { delete(n("Success").Properties, "errors") })
	f("listJobs: result[].id is string, not integer", func(n named) { n("Job").Properties["id"] = openapi3.NewStringSchema().NewRef() })
	f("listVersions: result.items[].number may be anything, not only number", func(n named) { n("Version").Properties["number"] = (&openapi3.Schema{}).NewRef() })
	f("getWorker: result.name may be null", func(n named) { n("Worker").Properties["name"].Value.Nullable = true })
	f("verifyToken: result.status may be \"new\", which is not among [\"active\" \"disabled\" \"expired\"]", func(n named) {
		status := n("Verification").Properties["status"].Value
		status.Enum = append(status.Enum, "new")
	})
	f("verifyToken: result.status may have any value, not only [\"active\" \"disabled\" \"expired\"]", func(n named) {
		n("Verification").Properties["status"].Value.Enum = nil
	})
	f("patchSecrets: result.*.type is integer, not string", func(n named) { n("Secret").Properties["type"] = openapi3.NewIntegerSchema().NewRef() })
}
