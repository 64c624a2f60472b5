package api_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidegate/schema/control"
)

// audits says of each operation that is not for reading which action its entry in the audit log
// has, or in parentheses why it leaves none.
var audits = map[string]string{
	"createOperatorToken":     "token.create",
	"deleteOperatorToken":     "token.delete",
	"rollOperatorToken":       "token.roll",
	"createToken":             "token.create",
	"deleteToken":             "token.delete",
	"beginSession":            "session.create",
	"endSession":              "session.delete",
	"createSessionLink":       "session_link.create",
	"beginAtIdentityProvider": "(it sends the browser to the provider; whoever comes back begins a session)",

	"createAccount":          "account.create",
	"patchAccount":           "account.update",
	"putSubdomain":           "account.subdomain",
	"putAccountRedaction":    "redaction.save",
	"deleteAccountRedaction": "redaction.delete",
	"createDeletion":         "deletion.create",

	"putScript":           "deployment.create",
	"putContent":          "deployment.create",
	"createVersion":       "version.create",
	"createWorkerVersion": "version.create",
	"patchLatestVersion":  "version.create",
	"deleteWorkerVersion": "version.delete",
	"createWorker":        "script.create",
	"putWorker":           "script.update",
	"patchWorker":         "script.hosts",
	"deleteWorker":        "script.delete",
	"deleteScript":        "script.delete",
	"deleteService":       "script.delete",
	"patchSettings":       "version.create",
	"patchScriptSettings": "script.update",
	"putUsageModel":       "(every script has the same one: nothing is changed)",
	"putSecret":           "version.create",
	"deleteSecret":        "version.create",
	"patchSecrets":        "version.create",
	"createDeployment":    "deployment.create",
	"deleteDeployment":    "deployment.delete",

	"putRoutes":             "script.routes",
	"createZoneRoute":       "route.move",
	"putZoneRoute":          "route.move",
	"deleteZoneRoute":       "route.move",
	"putScriptDomains":      "script.domains",
	"attachDomain":          "domain.attach",
	"deleteDomain":          "domain.delete",
	"domainChangeset":       "(it tells what a change would do)",
	"postScriptSubdomain":   "script.hosts",
	"deleteScriptSubdomain": "script.hosts",
	"putSchedules":          "script.schedules",
	"putAffinity":           "affinity.save",
	"deleteAffinity":        "affinity.delete",
	"putSampling":           "sampling.save",
	"putRedaction":          "redaction.save",
	"deleteRedaction":       "redaction.delete",

	"putPolicy":           "policy.save",
	"deletePolicy":        "policy.delete",
	"putDefaultPolicy":    "policy.save",
	"deleteDefaultPolicy": "policy.delete",
	"controlRamp":         "ramp.pause",
	"backtestPolicy":      "(a question)",
	"testNotify":          "(it sends a message that says it is a test, and changes nothing)",

	"createTail":            "tail.create",
	"deleteTail":            "tail.delete",
	"createInstantLogs":     "instant_logs.create",
	"createZoneInstantLogs": "instant_logs.create",
	"queryGraph":            "(a question)",

	"createJob":               "job.create",
	"updateJob":               "job.update",
	"deleteJob":               "job.delete",
	"putLogpushAlerts":        "logpush_alerts.save",
	"deleteLogpushAlerts":     "logpush_alerts.delete",
	"createReplay":            "replay.create",
	"replayJob":               "replay.create",
	"cancelReplay":            "replay.cancel",
	"deleteReplay":            "replay.cancel",
	"resendDeadLetter":        "dead_letter.resent",
	"resendDeadLetters":       "dead_letter.resent",
	"deleteDeadLetter":        "dead_letter.deleted",
	"testJob":                 "(a question: what a job would send)",
	"testNewJob":              "(a question: what a job would send)",
	"validateDestination":     "(a question, for which an empty file is written to the destination)",
	"validateZoneDestination": "(a question, for which an empty file is written to the destination)",
	"destinationExists":       "(a question)",
	"zoneDestinationExists":   "(a question)",
	"validateOrigin":          "(a question)",
	"validateZoneOrigin":      "(a question)",
	"challengeOwnership":      "(it writes a file to the destination, and nothing here)",
	"validateOwnership":       "(a question)",

	"putReports": "(what a router tells of itself, all the time)",
	"putRouter":  "(what a router tells of itself, all the time)",
	"claimCron":  "(a run of a schedule, which a router asks for)",
}

// withoutValues are the actions whose entries have nothing before and nothing after: there is no
// more to a session than who began it, which the entry says.
var withoutValues = []string{"session.create", "session.delete", "session_link.create"}

// savedAgain is a part of TestEveryOperation: what others save once has nothing before it.
func savedAgain(t *testing.T, p *platform) {
	for path, bodies := range map[string][2]string{
		"/workers/rollback-policy": {`{"enabled": false, "max_failure_rate": 0.1}`, `{"enabled": false, "max_failure_rate": 0.2}`},
		"/logpush/alerts":          {`{"url": "https://a.example.com/"}`, `{"url": "https://b.example.com/"}`},
		shop + "/domains/records":  {`{"origins": [{"hostname": "a.example.org"}]}`, `{"origins": [{"hostname": "b.example.org"}]}`},
	} {
		for _, body := range bodies {
			p.call(t, http.MethodPut, path, body).ok(t)
		}
	}
}

// auditing notes what each call to the API leaves in the audit log.
type auditing struct {
	p    *platform
	next http.RoundTripper

	mu    sync.Mutex
	known map[string]bool                 // entries by their ids
	left  map[string][]control.AuditEntry // by operation
}

// auditing begins to note what calls by the platform's own client leave.
func (p *platform) auditing() *auditing {
	a := &auditing{p: p, next: p.http.Transport, known: map[string]bool{}, left: map[string][]control.AuditEntry{}}
	p.http.Transport = a
	return a
}

// RoundTrip is http.RoundTripper's.
func (a *auditing) RoundTrip(req *http.Request) (*http.Response, error) {
	id := a.p.validator.Operation(req)
	if id == "" || req.Method == http.MethodGet {
		return a.next.RoundTrip(req)
	}
	if err := a.look(""); err != nil { // what came from elsewhere
		return nil, err
	}
	res, err := a.next.RoundTrip(req)
	if err == nil && res.StatusCode == http.StatusOK {
		err = a.look(id)
	}
	return res, err
}

// look notes entries that are new as those of an operation.
func (a *auditing) look(operation string) error {
	ctx := context.Background()
	accounts, err := a.p.store.Accounts(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, account := range accounts {
		list, _, err := a.p.store.AuditLog(ctx, account.ID, control.AuditFilter{NoAccount: true}, 50, 0)
		if err != nil {
			return err
		}
		for _, e := range list {
			if !a.known[e.ID] {
				a.known[e.ID] = true
				a.left[operation] = append(a.left[operation], e)
			}
		}
	}
	return nil
}

// check holds what operations left against the table.
func (a *auditing) check(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	operations := a.p.validator.Changes()
	for _, id := range operations {
		want, listed := audits[id]
		var actions []string
		var best control.AuditEntry
		for _, e := range a.left[id] {
			actions = append(actions, e.Action)
			if e.Action == want && (best.ID == "" || whole(e) > whole(best)) {
				best = e
			}
		}
		slices.Sort(actions)
		actions = slices.Compact(actions)
		switch {
		case !listed:
			t.Errorf("%s left %q, and is not in the table", id, actions)
		case strings.HasPrefix(want, "("):
			if len(actions) > 0 {
				t.Errorf("%s left %q, and none is expected: %s", id, actions, want)
			}
		case best.ID == "":
			t.Errorf("%s left %q, want %s", id, actions, want)
		case best.Actor.TokenID == "" || best.Actor.Source == "" || best.Target == "":
			t.Errorf("%s left %+v, which says not who or what", id, best)
		}
		if best.ID != "" && whole(best) < wholeOf(want) {
			t.Errorf("%s left no %s with all before and after: %+v", id, want, best)
		}
	}
	for id := range maps.Keys(audits) {
		if !slices.Contains(operations, id) {
			t.Errorf("%s is in the table and no such operation", id)
		}
	}
}

// whole counts on how many sides an entry has something.
func whole(e control.AuditEntry) (n int) {
	for _, text := range []string{e.Before, e.After} {
		if text != "" {
			n++
		}
	}
	return n
}

// wholeOf an action: what makes or deletes something has it on one side.
func wholeOf(action string) int {
	if slices.Contains(withoutValues, action) {
		return 0
	}
	if strings.HasSuffix(action, ".create") || strings.HasSuffix(action, ".delete") {
		return 1
	}
	return 2
}
