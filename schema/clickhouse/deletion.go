package clickhouse

// ReasonDeleted is the quarantine's reason of an offset whose event was deleted by
// request: nothing of it is kept but that.
const ReasonDeleted = "deleted"

// Mutation is how far the removal of rows from a table has come.
type Mutation struct {
	Running   bool
	PartsLeft int64  // to be written anew
	Failure   string // of the last try; ClickHouse goes on trying
}
