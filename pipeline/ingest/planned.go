package ingest

// Planned reads the metadata of a commit of ingest's group: the block that begins at the
// committed offset and is being stored ends at end. Not ok: none is, or nobody can tell.
func Planned(metadata string) (end int64, ok bool) {
	m, err := parseMark(metadata)
	return m.End, err == nil && m.plan != (plan{})
}
