package gateway

import (
	"net/http"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// script is a script with its versions at hand. It is immutable.
type script struct {
	*deploy.SnapshotScript
	versions []*version // newest first
	// draw is what deploy.Pick chooses from: the script, without the shares of
	// versions that cannot serve.
	draw     *deploy.SnapshotScript
	serving  []*version // parallel to Splits
	heldBack bool       // the newest deployment waits for its versions

	schedules []schedule
	affinity  []affinityRule // in the order in which they are tried
	drawn     bool           // more than one version has a share
	redaction *redactor      // nil for none
	// lists says that the header of a request may be a list, whichever version it is for.
	lists bool
}

// version is a version with its way in, and what was known of that when the table
// was made.
type version struct {
	*deploy.SnapshotVersion
	backend http.RoundTripper
	state   deploy.BackendState
	// leftOut counts its requests that leave no event. It stays with the version when
	// another snapshot comes.
	leftOut *tally
	lists   bool   // its backend takes the header of a request as a list
	members []byte // that all its events have in common, as schema.AppendScript has them
}

func newVersion(v *deploy.SnapshotVersion, of *deploy.SnapshotScript, backend http.RoundTripper) *version {
	next := &version{SnapshotVersion: v, leftOut: &tally{}}
	next.members = schema.AppendScript(nil, of.Name, of.Tags, next.stamp())
	if backend == nil {
		next.backend, next.state = noBackend{}, deploy.BackendState{Phase: deploy.BackendFailed, Error: errNoBackend.Error()}
		return next
	}
	taker, ok := backend.(listTaker)
	next.backend, next.state, next.lists = backend, stateOf(backend), ok && v.Worker == nil && taker.TakesLists()
	return next
}

// stamp is what events say of the version.
func (v *version) stamp() schema.ScriptVersion {
	return schema.ScriptVersion{ID: v.ID, Message: v.Message, Tag: v.Tag}
}

// stated is a backend with a state that changes.
type stated interface{ State() deploy.BackendState }

// stateOf asks a backend for its state. One that has none, such as an origin's with one
// endpoint, is always ready: it is connected to when a request comes.
func stateOf(backend http.RoundTripper) deploy.BackendState {
	if b, ok := backend.(stated); ok {
		return b.State()
	}
	return deploy.BackendState{Phase: deploy.BackendReady}
}

// reported reports whether the control plane hears of the version.
func (v *version) reported() bool {
	_, ok := v.backend.(stated)
	return ok || v.Worker != nil
}

// newScript puts next in the place of before, which is nil for a new script. The
// deployment of before stays in force, its versions' previews included, while one
// of the new one's versions is starting. All else is taken from next at once: a
// route or a setting is no part of a deployment.
func newScript(next *deploy.SnapshotScript, backends map[string]http.RoundTripper, before *script, warn func(string, ...any)) *script {
	sc := &script{SnapshotScript: next, schedules: compileSchedules(next, warn), affinity: compileAffinity(next, warn), redaction: compileRedaction(next, before, warn)}
	byID := make(map[string]*version, len(next.Versions))
	for i := range next.Versions {
		v := newVersion(&next.Versions[i], next, backends[next.Versions[i].ID])
		if backends[v.ID] == nil {
			warn("script %s/%s: version %s has no backend", next.AccountID, next.Name, v.ID)
		}
		byID[v.ID] = v
		sc.versions = append(sc.versions, v)
	}
	if before != nil && len(before.Splits) > 0 && !slices.Equal(before.Splits, next.Splits) && starting(next.Splits, byID) {
		sc.holdBack(before, byID)
	}
	for _, split := range sc.Splits {
		sc.serving = append(sc.serving, byID[split.VersionID]) // Validate and holdBack: it is there
	}
	sc.draw = sc.SnapshotScript
	splits := deploy.Available(sc.Splits, func(id string) bool { return byID[id].state.Phase == deploy.BackendFailed })
	if !slices.Equal(splits, sc.Splits) {
		draw := *sc.SnapshotScript
		draw.Splits = splits
		sc.draw = &draw
	}
	shares := 0
	for i := range sc.draw.Splits {
		if sc.draw.Splits[i].Percentage > 0 {
			shares++
		}
	}
	sc.drawn = shares > 1
	sc.lists = len(sc.serving) > 0 && !sc.Tailed && !slices.ContainsFunc(sc.serving, func(v *version) bool { return !v.lists })
	return sc
}

func starting(splits []deploy.Split, byID map[string]*version) bool {
	return slices.ContainsFunc(splits, func(s deploy.Split) bool { return byID[s.VersionID].state.Phase == deploy.BackendStarting })
}

// holdBack keeps the deployment of before, with the versions that it needs and
// that the snapshot no longer names.
func (sc *script) holdBack(before *script, byID map[string]*version) {
	held := *sc.SnapshotScript
	held.DeploymentID, held.Splits = before.DeploymentID, before.Splits
	held.Versions = slices.Clip(held.Versions)
	for _, v := range before.versions {
		if byID[v.ID] != nil {
			continue
		}
		old := newVersion(v.SnapshotVersion, sc.SnapshotScript, v.backend)
		byID[v.ID] = old
		held.Versions = append(held.Versions, *v.SnapshotVersion)
		sc.versions = append(sc.versions, old)
	}
	sc.SnapshotScript, sc.heldBack = &held, true
}

func (sc *script) host(prefix, domain string) string {
	return strings.ToLower(prefix + sc.Name + "." + sc.Subdomain + "." + domain)
}

// noBackend stands in for a version that the runtime does not know.
type noBackend struct{}

func (noBackend) RoundTrip(*http.Request) (*http.Response, error) { return nil, errNoBackend }
