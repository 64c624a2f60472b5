package clickhouse

import "time"

// ReasonDeleted is the quarantine's reason of an offset whose event was deleted by
// request: nothing of it is kept but that.
const ReasonDeleted = "deleted"

// Look is when a deletion looks at the tables.
type Look struct {
	Now time.Time // by the server's clock
	// Settled is so long before Now that what was inserted then can be seen by now, and
	// nothing comes any more whose inserted_at is earlier.
	Settled time.Time
}

// Doomed is how many rows of a table a deletion covers.
type Doomed struct {
	Left int64 // to be deleted
	// Ready of Left can be removed at this Look. The others were inserted too lately.
	Ready int64
	// Due of Left are rates that were Kept before, because their bucket had not ended.
	Due int64
	// Kept are rates that stay though they count some of what is covered.
	Kept int64
}

// Mutation is how far the removal of rows from a table has come.
type Mutation struct {
	Running   bool
	PartsLeft int64  // to be written anew
	Failure   string // of the last try; ClickHouse goes on trying
}
