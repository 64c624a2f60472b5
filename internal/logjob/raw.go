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

// ValueEnd returns where the JSON value ends that begins at data[at], which is checked
// as strictly as encoding/json does, and whether there is white space in it outside
// strings. Depth is how many values it lies in. Not ok: it is no value, or too deep.
func ValueEnd(data []byte, at, depth int) (end int, spaced, ok bool) {
	s := scanner{data: data, pos: at}
	err := s.value(depth)
	return s.pos, s.spaced, err == nil
}
