package deploy

import (
	"encoding/json"
	"slices"
)

// Upload is a new version of a script with what belongs to it: it is stored whole
// or not at all.
type Upload struct {
	Version Version
	// Contents of the modules of a Workers version, by their SHA-256 in hex. What the
	// control plane has already may be left out.
	Contents map[string][]byte

	// Create makes the script when it is missing; otherwise that is a not_found error.
	Create bool
	// Base, unless it is nil, is the id of the version that must be the newest until
	// then, empty for none: the upload was made from it. Another one is a conflict.
	Base *string
	// Serving, unless it is zero, refuses the upload with this code when Base is not
	// the only version with traffic: to deploy it would release what nobody released.
	Serving int

	// Deploy gives the version all traffic.
	Deploy     bool
	Deployment Deployment // its annotations and code update; the rest is given
	// Migrations change the script's Durable Object namespaces with the upload; nil
	// leaves them as they are. The refusals are those of Migrations, of CheckTransfer and
	// of Worker.Implementing.
	Migrations *Migrations
	// Settings of the script that change with the upload.
	Settings ScriptUpdate
}

// ScriptUpdate changes what of a script is not versioned; nil leaves a member as it is.
type ScriptUpdate struct {
	Tags    *[]string
	Logpush *Logpush
	// Settings are merged into those of the script by name; null removes one.
	Settings map[string]json.RawMessage
}

// Empty reports whether u changes nothing.
func (u ScriptUpdate) Empty() bool { return u.Tags == nil && u.Logpush == nil && len(u.Settings) == 0 }

// Masked is the worker without the text of its secrets, for answers and records.
func (w *Worker) Masked() *Worker {
	masked := *w
	masked.Bindings = make([]Binding, len(w.Bindings))
	for i, b := range w.Bindings {
		if b.Type == BindingSecretText {
			b.Text = ""
		}
		masked.Bindings[i] = b
	}
	return &masked
}

// Secrets are the texts of the secrets by name.
func (w *Worker) Secrets() map[string]string {
	secrets := make(map[string]string)
	if w == nil {
		return secrets
	}
	for _, b := range w.Bindings {
		if b.Type == BindingSecretText {
			secrets[b.Name] = b.Text
		}
	}
	return secrets
}

// ChangedSecrets names the secrets that differ between two workers, either of
// which may be nil, in the order of their names.
func ChangedSecrets(a, b *Worker) []string {
	before, after := a.Secrets(), b.Secrets()
	var changed []string
	for name, text := range before {
		if other, ok := after[name]; !ok || other != text {
			changed = append(changed, name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}
