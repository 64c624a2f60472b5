package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"

	"tidegate/internal/errs"
)

// Bounds of targets, in entries and bytes.
const (
	notifyMax       = 10
	notifyToMax     = 20
	notifyURLMax    = 4096
	notifySecretMin = 16 // as signature.SecretMin, for secrets of Logpush: shorter ones can be guessed
	notifySecretMax = 1024
	addressMax      = 254 // RFC 5321, section 4.5.3.1.3, without the brackets
)

// AlertsPath is where an Alertmanager takes alerts, below its own address.
const AlertsPath = "/api/v2/alerts"

// maskedText stands for what is not shown.
const maskedText = "***"

var (
	notifyTypes = []NotifyType{NotifyWebhook, NotifySlack, NotifyAlertmanager, NotifyEmail}
	notifyOns   = []NotifyOn{OnRollback, OnPause, OnFail, OnError, OnPromote, OnDone}
)

func (p *RollbackPolicy) checkNotify() error {
	if n := len(p.Notify); n > notifyMax {
		return badPolicy("notify", "has %d entries: at most %d are allowed", n, notifyMax)
	}
	for i := range p.Notify {
		target := &p.Notify[i]
		if member, why := target.check(); why != "" {
			return badEntry("notify", i, member, "%s", why)
		}
		if j := slices.IndexFunc(p.Notify[:i], target.same); j >= 0 {
			return badEntry("notify", i, "", "is the same as notify[%d]: it would be told twice", j)
		}
	}
	return nil
}

// same reports whether both reach the same place.
func (n *NotifyTarget) same(other NotifyTarget) bool {
	return n.Type == other.Type && n.URL == other.URL && slices.Equal(n.To, other.To)
}

// check returns the first bad member, empty for the target as a whole, and what is
// wrong with it; why is empty for a good one. Where a name leads is found out when
// something is sent there, and may change until then; internal/app refuses addresses.
func (n *NotifyTarget) check() (member, why string) {
	switch {
	case !slices.Contains(notifyTypes, n.Type):
		return "type", fmt.Sprintf("%.60q must be one of %q", n.Type, notifyTypes)
	case n.Type == NotifyEmail && n.URL != "":
		return "url", fmt.Sprintf("does not go with the type %q: addresses are in to", n.Type)
	case n.Type != NotifyEmail && len(n.To) > 0:
		return "to", fmt.Sprintf("goes with the type %q only", NotifyEmail)
	case n.Type != NotifyWebhook && n.Secret != "":
		return "secret", fmt.Sprintf("goes with the type %q only: nothing else is signed", NotifyWebhook)
	case len(n.Secret) > notifySecretMax || strings.ContainsFunc(n.Secret, func(r rune) bool { return r < ' ' || r > '~' }):
		return "secret", fmt.Sprintf("must be at most %d printable ASCII characters", notifySecretMax)
	case n.Secret != "" && n.Secret != maskedText && len(n.Secret) < notifySecretMin:
		return "secret", fmt.Sprintf("has %d characters: it must have at least %d, for shorter ones can be guessed", len(n.Secret), notifySecretMin)
	}
	if n.Type == NotifyEmail {
		member, why = n.checkTo()
	} else {
		member, why = n.checkURL()
	}
	if why != "" {
		return member, why
	}
	for i, on := range n.On {
		member := fmt.Sprintf("on/%d", i)
		switch {
		case !slices.Contains(notifyOns, on):
			return member, fmt.Sprintf("%.60q must be one of %q", on, notifyOns)
		case slices.Contains(n.On[:i], on):
			return member, fmt.Sprintf("%q is there twice", on)
		}
	}
	return "", ""
}

// checkURL never repeats the URL, which may be what lets one in.
func (n *NotifyTarget) checkURL() (member, why string) {
	u, err := url.Parse(n.URL)
	switch {
	case n.URL == "":
		return "url", fmt.Sprintf("is missing: the type %q needs one", n.Type)
	case len(n.URL) > notifyURLMax:
		return "url", fmt.Sprintf("has %d bytes: at most %d are allowed", len(n.URL), notifyURLMax)
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return "url", "must be an absolute https:// URL"
	case u.User != nil:
		return "url", "must have no user info: it would be shown"
	case u.Fragment != "":
		return "url", "must have no fragment, which is never sent"
	}
	return "", ""
}

func (n *NotifyTarget) checkTo() (member, why string) {
	if len(n.To) == 0 || len(n.To) > notifyToMax {
		return "to", fmt.Sprintf("has %d entries: it must have 1 to %d addresses", len(n.To), notifyToMax)
	}
	for i, to := range n.To {
		member := fmt.Sprintf("to/%d", i)
		address, err := mail.ParseAddress(to)
		switch {
		case err != nil || address.Address != to || address.Name != "" || len(to) > addressMax || strings.ContainsFunc(to, func(r rune) bool { return r <= ' ' || r > '~' }):
			return member, fmt.Sprintf("%.60q must be a plain e-mail address, such as oncall@example.com", to)
		case slices.ContainsFunc(n.To[:i], func(other string) bool { return strings.EqualFold(other, to) }):
			return member, fmt.Sprintf("%q is there twice", to)
		}
	}
	return "", ""
}

// Masked is the policy for answers and records: without the secrets of its targets,
// and without what of their URLs may be a credential: a path, but not the one where every
// Alertmanager takes alerts, and a query. Eight digits of the URL's hash stay, so that
// two can be told apart.
func (p RollbackPolicy) Masked() RollbackPolicy {
	p.Notify = slices.Clone(p.Notify)
	for i := range p.Notify {
		target := &p.Notify[i]
		target.URL = target.maskedURL()
		if target.Secret != "" {
			target.Secret = maskedText
		}
	}
	return p
}

func (n *NotifyTarget) maskedURL() string {
	u, err := url.Parse(n.URL)
	if err != nil {
		return maskedText
	}
	sum := sha256.Sum256([]byte(n.URL))
	hidden := maskedText + hex.EncodeToString(sum[:4])
	base, _, hasQuery := strings.Cut(n.URL, "?")
	shown := u.Path == "" || u.Path == "/" || n.Type == NotifyAlertmanager && u.Path == AlertsPath
	switch {
	case !shown:
		return u.Scheme + "://" + u.Host + "/" + hidden
	case hasQuery:
		return base + "?" + hidden
	}
	return n.URL
}

// HasMasked reports whether a target of p is as Masked leaves it.
func (p *RollbackPolicy) HasMasked() bool {
	return slices.ContainsFunc(p.Notify, func(n NotifyTarget) bool { return n.Secret == maskedText || strings.Contains(n.URL, maskedText) })
}

// Unmask puts back what Masked left out, from the targets that are known. It is an
// invalid *errs.Error if they do not have it.
func (p *RollbackPolicy) Unmask(known []NotifyTarget) error {
	p.Notify = slices.Clone(p.Notify)
	for i := range p.Notify {
		target := &p.Notify[i]
		if strings.Contains(target.URL, maskedText) {
			j := slices.IndexFunc(known, func(k NotifyTarget) bool { return k.Type == target.Type && k.maskedURL() == target.URL })
			if j < 0 {
				return badEntry("notify", i, "url", "is masked, and no earlier target of this policy looks like it: give it whole")
			}
			target.URL = known[j].URL
		}
		if target.Secret == maskedText {
			j := slices.IndexFunc(known, func(k NotifyTarget) bool { return k.Type == target.Type && k.URL == target.URL && k.Secret != "" })
			if j < 0 {
				return badEntry("notify", i, "secret", "is masked, and no earlier target of this policy has one for its URL: give it whole")
			}
			target.Secret = known[j].Secret
		}
	}
	return nil
}

// ErrNotifyURL is the refusal of the URL of one of a policy's targets by who knows
// where targets may be.
func ErrNotifyURL(i int, why string) *errs.Error { return badEntry("notify", i, "url", "%s", why) }
