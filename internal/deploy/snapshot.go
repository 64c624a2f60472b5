package deploy

import (
	"fmt"
	"slices"
)

// Snapshot is all that a gateway needs to serve: an immutable picture of every
// script that can be reached. Revision grows with every change that a gateway
// could notice; zero means "no snapshot yet".
type Snapshot struct {
	Revision int64            `json:"revision"`
	Scripts  []SnapshotScript `json:"scripts"`
	// DeletedDurableObjects are ids of namespaces whose storage may be removed, because
	// their class or their script was deleted. That a namespace is not in the snapshot
	// says nothing: only an id that is in this list is gone for good. The list has the
	// newest SnapshotDeletedMax ones.
	DeletedDurableObjects []string `json:"deleted_durable_objects,omitempty"`
}

// SnapshotDeletedMax bounds Snapshot.DeletedDurableObjects: a router that missed an
// id keeps a folder that nobody needs, and loses nothing.
const SnapshotDeletedMax = 1000

// SnapshotScript is one script in a snapshot.
type SnapshotScript struct {
	AccountID string   `json:"account_id"`
	Subdomain string   `json:"subdomain"` // of the account: <name>.<subdomain>.<gateway domain>
	Name      string   `json:"name"`
	Tags      []string `json:"tags,omitempty"`
	Routes    []string `json:"routes,omitempty"`
	// HostDisabled takes away the script's own host, PreviewsDisabled those of its
	// versions and aliases. Routes and service bindings stay.
	HostDisabled     bool `json:"host_disabled,omitempty"`
	PreviewsDisabled bool `json:"previews_disabled,omitempty"`
	// Crons are the schedules of the scheduled handler, five fields in UTC.
	Crons []string `json:"crons,omitempty"`
	// Tailed says that somebody is watching: copies of its events go to schema.TailTopic.
	Tailed bool `json:"tailed,omitempty"`
	// LogpushDisabled says that no Logpush job gets its events; they are marked with
	// schema.HeaderLogpush.
	LogpushDisabled bool `json:"logpush_disabled,omitempty"`
	// HeadSamplingRate is that of Sampling; zero, as in snapshots from before there was
	// one, keeps every event.
	HeadSamplingRate float64 `json:"head_sampling_rate,omitempty"`
	// Redaction is what gateways take out of its events: the account's rules, then its own.
	// Nil takes out nothing beside what always is.
	Redaction *Redaction `json:"redaction,omitempty"`
	// DeploymentID and Splits are those of the current deployment; both are empty
	// while the script has none.
	DeploymentID string  `json:"deployment_id,omitempty"`
	Splits       []Split `json:"splits,omitempty"`
	// Affinity are the rules that derive a key from a request that brings none, in the
	// order in which they are tried.
	Affinity []AffinityRule `json:"affinity,omitempty"`
	// ObjectsDelayMS is how long a Durable Object that is busy may stay on the version
	// that it runs once this deployment gives it another one, in milliseconds. Zero
	// does not let it finish what it has in hand (CodeUpdateImmediate).
	ObjectsDelayMS int64 `json:"objects_delay_ms,omitempty"`
	// Versions holds every version in Splits and, for their preview hosts, the
	// other deployable ones, newest first.
	Versions []SnapshotVersion `json:"versions"`
}

// SnapshotVersion is what a gateway knows of a version.
type SnapshotVersion struct {
	ID      string `json:"id"`
	Tag     string `json:"tag,omitempty"`
	Message string `json:"message,omitempty"`
	Alias   string `json:"alias,omitempty"`
	// Exactly one of the two is set.
	Origin *Origin         `json:"origin,omitempty"`
	Worker *SnapshotWorker `json:"worker,omitempty"`
}

// SnapshotWorker is what a gateway must know of a Workers version without its
// code, which the runtime fetches as a Bundle.
type SnapshotWorker struct {
	Exports Exports `json:"exports"`
	// Objects are the namespaces of Durable Objects that it implements, in the order of
	// their classes. A version that serves has none that was transferred to another
	// script since it was deployed: the bundle tells what it was uploaded with, this what
	// it may open. A version that does not serve opens none.
	Objects []DurableObjectNamespace `json:"objects,omitempty"`
}

// Validate reports the first thing that would make the snapshot unsafe to serve.
// A gateway refuses such a snapshot and keeps the one it has.
func (s *Snapshot) Validate() error {
	if s.Revision <= 0 {
		return fmt.Errorf("snapshot: revision %d is not positive", s.Revision)
	}
	seen := make(map[string]bool, len(s.Scripts))
	for i := range s.Scripts {
		sc := &s.Scripts[i]
		key := sc.AccountID + "/" + sc.Name
		if sc.AccountID == "" || sc.Name == "" || sc.Subdomain == "" {
			return fmt.Errorf("snapshot %d: script %d lacks an account, a subdomain or a name", s.Revision, i)
		}
		if seen[key] {
			return fmt.Errorf("snapshot %d: script %s appears twice", s.Revision, key)
		}
		seen[key] = true
		if err := sc.validate(); err != nil {
			return fmt.Errorf("snapshot %d: script %s: %w", s.Revision, key, err)
		}
	}
	return nil
}

func (sc *SnapshotScript) validate() error {
	if sc.HeadSamplingRate != 0 {
		if err := (Sampling{sc.HeadSamplingRate}).Validate(); err != nil {
			return err
		}
	}
	known := make(map[string]bool, len(sc.Versions))
	for _, v := range sc.Versions {
		if known[v.ID] {
			return fmt.Errorf("version %s appears twice", v.ID)
		}
		known[v.ID] = true
		if (v.Origin == nil) == (v.Worker == nil) {
			return fmt.Errorf("version %s must have one backend, an origin or a worker", v.ID)
		}
		if v.Origin == nil {
			continue
		}
		if err := v.Origin.validate(); err != nil {
			return fmt.Errorf("version %s: %w", v.ID, err)
		}
	}
	for _, split := range sc.Splits {
		if !known[split.VersionID] {
			return fmt.Errorf("the deployment names version %s, which is not in the snapshot", split.VersionID)
		}
	}
	if len(sc.Splits) == 0 {
		return nil
	}
	if err := ValidateSplits(sc.Splits, len(sc.Splits)); err != nil {
		return err
	}
	return sc.validateObjects()
}

// validateObjects makes sure that each object has a version to run, whichever of the
// deployment it is given.
func (sc *SnapshotScript) validateObjects() error {
	var first *SnapshotVersion
	for i := range sc.Versions {
		v := &sc.Versions[i]
		if !slices.ContainsFunc(sc.Splits, func(s Split) bool { return s.VersionID == v.ID }) {
			continue
		}
		if first == nil {
			first = v
		}
		if !slices.Equal(v.objects(), first.objects()) {
			return fmt.Errorf("the deployment splits between versions %s and %s, which implement different Durable Objects", first.ID, v.ID)
		}
	}
	return nil
}

func (v *SnapshotVersion) objects() []DurableObjectNamespace {
	if v.Worker == nil {
		return nil
	}
	return v.Worker.Objects
}
