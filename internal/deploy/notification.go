package deploy

import (
	"net/url"
	"slices"
	"time"
)

// OnTest is the kind of a message that somebody asked for to see whether a target
// works. No policy can name it.
const OnTest NotifyOn = "test"

// Notification is a message to one target about one decision. It is stored in the
// transaction that stores the decision, and tried until it is sent or given up.
type Notification struct {
	ID        string // UUID v4; the same at every try, so that receivers can tell a repeat
	AccountID string
	Script    string
	On        NotifyOn
	Target    NotifyTarget // with its secrets; an e-mail has one address
	Decision  RollbackDecision
	CreatedOn time.Time
	// EndedOn is when what an alert tells of was over; zero while it lasts. Only
	// targets of NotifyAlertmanager are told.
	EndedOn time.Time

	State     NotificationState
	Attempts  int       // tries that were begun
	NextTry   time.Time // while it waits
	TriedOn   time.Time // zero: never
	LastError string    // of the last try; holds neither URL nor secret
}

// NotificationState is where a message stands.
type NotificationState string

const (
	NotificationWaiting NotificationState = "waiting" // to be tried, or tried again
	NotificationSent    NotificationState = "sent"    // the target has taken it
	NotificationFailed  NotificationState = "failed"  // given up
	NotificationDropped NotificationState = "dropped" // too many waited already, or it is the end of an alert that stands again
)

// NotifyResult is what came of a test message to one target.
type NotifyResult struct {
	Type   NotifyType `json:"type"`
	Target string     `json:"target"` // NotifyTarget.Name
	OK     bool       `json:"ok"`
	Error  string     `json:"error,omitempty"`
}

// News returns what kind of news a decision is; empty for one that nobody is told
// of. rampDone says that a ramp reached its last step with it.
func (d *RollbackDecision) News(rampDone bool) NotifyOn {
	switch {
	case d.Action == ActionRollback:
		return OnRollback
	case d.Action == ActionPause:
		return OnPause
	case d.Verdict == VerdictFail:
		return OnFail
	case d.Verdict == VerdictError:
		return OnError
	case d.Action == ActionNotify: // it passed, and what it had moved was refused
		return OnFail
	case rampDone:
		return OnDone
	case d.ToDeployment != "":
		return OnPromote
	}
	return ""
}

// Wants reports whether the target is told of a kind of decision.
func (n *NotifyTarget) Wants(on NotifyOn) bool {
	if len(n.On) == 0 {
		return on != OnPromote
	}
	return slices.Contains(n.On, on)
}

// Each returns the target once for every message that it gets: an e-mail goes to
// each address by itself, so that a bad one keeps the others from nothing.
func (n NotifyTarget) Each() []NotifyTarget {
	if n.Type != NotifyEmail {
		return []NotifyTarget{n}
	}
	list := make([]NotifyTarget, len(n.To))
	for i, address := range n.To {
		list[i] = n
		list[i].To = []string{address}
	}
	return list
}

// Name says which target it is without what only its owner may know: the path of
// a webhook's URL is its password.
func (n *NotifyTarget) Name() string {
	if n.Type == NotifyEmail {
		if len(n.To) == 0 {
			return ""
		}
		return n.To[0]
	}
	u, err := url.Parse(n.URL)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Forgotten is the target without its secrets.
func (n NotifyTarget) Forgotten() NotifyTarget {
	if n.Type != NotifyEmail {
		n.URL = n.Name()
	}
	n.Secret = ""
	return n
}
