package logjob

// Raw returns the JSON of a field, nil where it is absent or null.
func (r *Record) Raw(field string) []byte {
	i, ok := fieldIndex[field]
	if !ok {
		return nil
	}
	raw, _ := r.value(i)
	return raw
}

// Unquote returns the text of a valid JSON string, and false for any other value.
// It copies only where the string has escapes.
func Unquote(raw []byte) ([]byte, bool) { return unquote(raw) }
