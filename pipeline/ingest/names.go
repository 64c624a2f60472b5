package ingest

import (
	"hash/maphash"
	"sync"
	"time"

	"tidegate/pipeline/stream"
)

// Bounds of the names that are in use: the combinations of script, version and outcome
// that events are counted under. One is in use until an hour after its last event. Each
// process knows those that it has stored itself since it was started.
const (
	// NamesDefault of an account are more than 10,000 scripts have with two versions and
	// two outcomes each.
	NamesDefault = 50_000
	// NamesMin is two blocks' worth, NamesMax what all accounts may have together.
	NamesMin = 2 * cellsMax
	NamesMax = namesOfAllMax
	// namesOfAllMax are those of all accounts together: some 30 bytes each. Beyond it an
	// account still gets namesFree, so that many large ones do not blind the small ones.
	namesOfAllMax = 500_000
	namesFree     = 20
	// accountsInUseMax is two blocks' worth, too.
	accountsInUseMax = 2 * accountsMax

	nameIdle      = time.Hour
	sweepInterval = time.Minute
)

// names are those in use. They are safe for concurrent use.
//
// What is refused because of them depends on more than a block, and a block that is built
// again must be the same. So where a bound is near, it is decided before the block is
// planned, and the plan says which records are refused (reader.refuse). As long as every
// bound that a block has to do with is a block away, names are only counted, when their
// block is stored.
type names struct {
	max  int // of an account
	seed maphash.Seed

	mu       sync.Mutex
	accounts map[string]map[uint64]int64 // by account and hash, the last use in Unix seconds
	all      int
	near     int // accounts that are less than a block's worth below max
	swept    time.Time
}

func newNames(most int) *names {
	return &names{max: most, seed: maphash.MakeSeed(), accounts: map[string]map[uint64]int64{}}
}

// tight reports whether a block of these records may pass a bound.
func (n *names) tight(records []stream.Record, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sweepLocked(now)
	if n.all+cellsMax > namesOfAllMax || len(n.accounts)+accountsMax > accountsInUseMax {
		return true
	}
	if n.near == 0 {
		return false
	}
	last := ""
	for i := range records {
		if account := records[i].Account; account != last {
			if n.isNear(len(n.accounts[account])) {
				return true
			}
			last = account
		}
	}
	return false
}

// isNear reports whether an account with so many names may pass its bound with the next block.
func (n *names) isNear(used int) bool { return used > max(0, n.max-cellsMax) }

// take makes use of a name, and reports whether there was a place for it.
func (n *names) take(k cell, now time.Time) bool {
	key := maphash.Comparable(n.seed, k)
	n.mu.Lock()
	defer n.mu.Unlock()
	used, known := n.accounts[k.account]
	if _, same := used[key]; !same {
		if !known && len(n.accounts) >= accountsInUseMax || len(used) >= n.max || n.all >= namesOfAllMax && len(used) >= namesFree {
			return false
		}
	}
	n.useLocked(k.account, key, now)
	return true
}

// use counts the names of a block that has been built, which are in use whatever their number.
func (n *names) use(cells map[cell]struct{}, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range cells {
		n.useLocked(k.account, maphash.Comparable(n.seed, k), now)
	}
}

func (n *names) useLocked(account string, key uint64, now time.Time) {
	used := n.accounts[account]
	if used == nil {
		used = map[uint64]int64{}
		n.accounts[account] = used
	}
	before := len(used)
	used[key] = now.Unix()
	if len(used) == before {
		return
	}
	n.all++
	if n.isNear(len(used)) && !n.isNear(before) {
		n.near++
	}
}

// sweepLocked lets go of what is no longer in use.
func (n *names) sweepLocked(now time.Time) {
	if now.Sub(n.swept) < sweepInterval {
		return
	}
	n.swept, n.all, n.near = now, 0, 0
	oldest := now.Add(-nameIdle).Unix()
	for account, used := range n.accounts {
		for key, at := range used {
			if at < oldest {
				delete(used, key)
			}
		}
		if len(used) == 0 {
			delete(n.accounts, account)
		}
		n.all += len(used)
		if n.isNear(len(used)) {
			n.near++
		}
	}
}

// most is the number of names of the account that has most of them.
func (n *names) most(now time.Time) (most int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sweepLocked(now)
	for _, used := range n.accounts {
		most = max(most, len(used))
	}
	return most
}
