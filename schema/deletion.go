package schema

import (
	"bytes"
	"time"
)

// Tombstone says that what an account, or one of its scripts, recorded before a time is
// deleted, and that what comes late of it is not stored.
type Tombstone struct {
	AccountID string
	Script    string // empty: every script of the account
	// Before is a time of events (EventTime), in whole milliseconds: those at it stay.
	Before time.Time
}

// Tombstones answers which events are deleted. It is immutable, and nil deletes nothing.
type Tombstones struct {
	accounts map[string]*accountTombstones
}

type accountTombstones struct {
	all     time.Time            // zero: none for all scripts
	scripts map[string]time.Time // by name
}

// NewTombstones returns the tombstones of a list. Of two for one script the later time
// counts.
func NewTombstones(list []Tombstone) *Tombstones {
	t := &Tombstones{accounts: map[string]*accountTombstones{}}
	for _, one := range list {
		a := t.accounts[one.AccountID]
		if a == nil {
			a = &accountTombstones{scripts: map[string]time.Time{}}
			t.accounts[one.AccountID] = a
		}
		switch {
		case one.Script == "" && one.Before.After(a.all):
			a.all = one.Before
		case one.Script != "" && one.Before.After(a.scripts[one.Script]):
			a.scripts[one.Script] = one.Before
		}
	}
	return t
}

// In reports whether anything of an account is deleted.
func (t *Tombstones) In(account string) bool { return t != nil && t.accounts[account] != nil }

// Cover reports whether an event is deleted.
func (t *Tombstones) Cover(account, script string, at time.Time) bool {
	if !t.In(account) {
		return false
	}
	a := t.accounts[account]
	return at.Before(a.all) || at.Before(a.scripts[script])
}

// CoverUnread reports whether a record that cannot be read as an event, and was
// written at a time, may be of what is deleted: one of an account all of whose scripts
// are, or one that names a script in quotes.
func (t *Tombstones) CoverUnread(account string, value []byte, at time.Time) bool {
	if !t.In(account) {
		return false
	}
	a := t.accounts[account]
	if at.Before(a.all) {
		return true
	}
	for script, before := range a.scripts {
		if at.Before(before) && bytes.Contains(value, []byte(`"`+script+`"`)) {
			return true
		}
	}
	return false
}

// States of a deletion.
const (
	DeletionQueued  = "queued"  // nobody has begun
	DeletionRunning = "running" // late events are refused, and rows are being removed
	DeletionDone    = "done"    // every place was looked at, and nothing was left
)

// Deletion is a request to delete what was recorded, and what has become of it.
type Deletion struct {
	ID        string
	Tombstone        // what to delete
	State     string // DeletionQueued, ...
	// RequestedBy is the e-mail address of the token that asked, else the token's id.
	RequestedBy string
	CreatedOn   time.Time
	StartedOn   time.Time // zero: not yet; since then late events are refused
	EndedOn     time.Time // zero: not yet
	CheckedOn   time.Time // when nothing was left for the last time; zero: never yet
	Places      []DeletionPlace
	Error       string // why it does not go on; empty while it does
	Revision    int64  // grows with each change of the row
}

// DeletionPlace is a table, and how much a deletion took out of it.
type DeletionPlace struct {
	Name string `json:"name"`
	// RowsDeleted are confirmed: they were counted, removed, and then not found again.
	RowsDeleted int64 `json:"rows_deleted"`
	// RowsLeft were counted and are being removed, or were inserted too lately for that.
	RowsLeft int64 `json:"rows_left"`
	// RowsKept are rates of the second, minute or hour in which the time lies up to which
	// was to be deleted, where there are events from then on, too, or may be yet.
	RowsKept int64 `json:"rows_kept"`
	// PartsLeft of the table are still to be written anew without the rows.
	PartsLeft int64 `json:"parts_left"`
}

// Found notes that so many rows are left. Those that were left before are deleted once
// none is; until then a smaller number says that the removal is under way.
func (p *DeletionPlace) Found(rows int64) {
	switch {
	case rows == 0:
		p.RowsDeleted += p.RowsLeft
		p.RowsLeft = 0
	case rows > p.RowsLeft:
		p.RowsLeft = rows
	}
}
