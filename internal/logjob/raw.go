package logjob

// Raw returns the JSON of a field, nil where it is absent or null.
func (r *Record) Raw(field string) []byte {
	i := fieldNumber([]byte(field))
	if i < 0 {
		return nil
	}
	raw, _ := r.value(i)
	return raw
}
