package notify

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
)

// Links are where a message leads.
type Links struct {
	// Console is where people reach the API and its start page, such as
	// https://tidegate.example.com; empty for messages without links.
	Console string
}

// decisions is the address of the decisions about a script in the API.
func (l Links) decisions(accountID, script string) string {
	if l.Console == "" {
		return ""
	}
	return strings.TrimSuffix(l.Console, "/") + "/client/v4/accounts/" + url.PathEscape(accountID) +
		"/workers/scripts/" + url.PathEscape(script) + "/rollback-decisions"
}

// message is what people read, whatever form it takes.
type message struct {
	title    string // one line: what happened to which script
	sentence string
	facts    []fact
	console  string // empty: no link
	history  string // the decisions in the API; empty: no link
}

type fact struct{ name, value string }

// titles are what people read first.
var titles = map[deploy.NotifyOn]string{
	deploy.OnRollback: "Rolled back %s",
	deploy.OnPause:    "Paused the ramp of %s",
	deploy.OnFail:     "A version of %s fails",
	deploy.OnError:    "Could not judge %s",
	deploy.OnPromote:  "Promoted a version of %s",
	deploy.OnDone:     "The ramp of %s is done",
	deploy.OnTest:     "Test message about %s",
}

func messageOf(n deploy.Notification, links Links) message {
	d := n.Decision
	m := message{
		title: fmt.Sprintf(titles[n.On], n.Script), sentence: d.Sentence,
		console: links.Console, history: links.decisions(n.AccountID, n.Script),
	}
	add := func(name, value string) {
		if value != "" {
			m.facts = append(m.facts, fact{name, value})
		}
	}
	add("Script", n.Script)
	add("Account", n.AccountID)
	add("Version", d.VersionID)
	add("Baseline", d.BaselineVersionID)
	add("Failed", share(d.Numbers.Failures, d.Numbers.Requests))
	add("Failed on the baseline", share(d.Numbers.BaselineFailures, d.Numbers.BaselineRequests))
	add("Limit", string(d.Metric))
	add("At", d.At.UTC().Format(time.RFC3339))
	return m
}

// share is empty where a count is unknown.
func share(failures, requests *int64) string {
	if failures == nil || requests == nil {
		return ""
	}
	text := fmt.Sprintf("%d of %d requests", *failures, *requests)
	if *requests > 0 {
		text += fmt.Sprintf(" (%.2f %%)", 100*float64(*failures)/float64(*requests))
	}
	return text
}

// testOf is a message about nothing.
func testOf(accountID, script string, target deploy.NotifyTarget, now time.Time) deploy.Notification {
	return deploy.Notification{
		ID: uuid.NewString(), AccountID: accountID, Script: script, On: deploy.OnTest, Target: target, CreatedOn: now,
		Decision: deploy.RollbackDecision{
			ID: uuid.NewString(), At: now, Verdict: deploy.VerdictPass, Action: deploy.ActionNotify,
			Sentence: "this is a test: nothing was judged, and no traffic has moved",
		},
	}
}
