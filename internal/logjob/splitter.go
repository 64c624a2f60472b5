package logjob

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

const (
	// leavesMax is how many leaves an event may have to be an example.
	leavesMax = 1000
	// learnEvery is after how many events that were built otherwise the example changes.
	learnEvery = 16
)

// Splitter splits events that come one after another as Record.Split does, faster
// where they are built alike, as a gateway's mostly are. It compares an event with
// an example that was scanned: where their bytes are the same, so is the syntax,
// and what differs is scanned. Leaves that differed once are scanned without being
// compared, because most of them, times and ids, differ each time. The zero value is
// ready. It belongs to one goroutine.
type Splitter struct {
	text    []byte // a copy of the example: valid, without white space; empty is none
	leaves  []leaf
	members []member

	shifts []int // of the event being split: how much farther than in text each leaf begins; the last one is for the end
	missed int   // events that were built otherwise, the first included

	varying []int // leaves that differed in some event, in order
	moved   []int // of the event being split: how much farther than in text what follows each of these is; the first is for what is before
}

// leaf is a value in the example that has no values inside: a string, a number, a
// word, or an empty list or object.
type leaf struct {
	start, end, depth int
	varies            bool // it is in varying
}

// member is one of the example's top level. Any value has a leaf.
type member struct {
	start, value, end int // of its name, of its value, behind it
	first, after      int // of its leaves
	before, through   int // of varying, those before its value, and before its end
	field             int // in schema.Fields, or -1
}

// Split takes the fields out of value into r. See Record.Split.
func (s *Splitter) Split(r *Record, value []byte) error {
	whole, same := false, false
	if len(s.text) > 0 && len(value) <= math.MaxInt32 {
		if s.hurry(r, value) {
			return nil
		}
		whole, same = s.follow(r, value)
	}
	if same {
		s.vary()
		return nil
	}
	s.missed++
	switch {
	case s.missed%learnEvery == 1:
		return s.learn(r, value)
	case whole:
		return nil
	}
	return r.Split(value)
}

// learn splits an event as Record.Split does and makes it the example.
func (s *Splitter) learn(r *Record, value []byte) error {
	if err := r.Split(value); err != nil {
		return err
	}
	s.text, s.leaves, s.members, s.varying = s.text[:0], s.leaves[:0], s.members[:0], s.varying[:0]
	scan := scanner{data: value, leaves: &s.leaves}
	next, after := 0, 0
	err := scan.members(func(name, raw []byte) error {
		field := fieldAfter(next, name[1:len(name)-1])
		if field >= 0 {
			next = field + 1
		}
		start := scan.pos - len(raw)
		s.members = append(s.members, member{start: start - len(":") - len(name), value: start, end: scan.pos, first: after, after: len(s.leaves), field: field})
		after = len(s.leaves)
		return nil
	})
	if err == nil && !scan.spaced && len(s.leaves) < leavesMax {
		s.text = append(s.text, value...)
		s.shifts = append(s.shifts[:0], make([]int, len(s.leaves)+1)...)
		s.vary()
	}
	return nil
}

// vary takes note of which leaves vary.
func (s *Splitter) vary() {
	s.varying = s.varying[:0]
	for i := range s.leaves {
		if s.leaves[i].varies {
			s.varying = append(s.varying, i)
		}
	}
	s.moved = append(s.moved[:0], make([]int, len(s.varying)+1)...)
	for i := range s.members {
		m := &s.members[i]
		m.before, _ = slices.BinarySearch(s.varying, m.first)
		m.through, _ = slices.BinarySearch(s.varying, m.after)
	}
}

// hurry splits an event in which nothing differs but leaves that are known to vary.
// It returns false if it is another: r is of no use then.
func (s *Splitter) hurry(r *Record, value []byte) bool {
	scan := scanner{data: value}
	at, shift := 0, 0 // in text, and from there to the place in value
	for i, n := range s.varying {
		l := &s.leaves[n]
		if l.start+shift > len(value) || string(s.text[at:l.start]) != string(value[at+shift:l.start+shift]) {
			return false
		}
		scan.pos = l.start + shift
		if scan.any(l.depth) != nil {
			return false
		}
		at, shift = l.end, scan.pos-l.end
		s.moved[i+1] = shift
	}
	if scan.spaced || string(s.text[at:]) != string(value[at+shift:]) {
		return false
	}
	r.data = value
	clear(r.fields[:])
	for i := range s.members {
		if m := &s.members[i]; m.field >= 0 {
			r.fields[m.field] = span{uint32(m.value + s.moved[m.before]), uint32(m.end + s.moved[m.through])} // #nosec G115 -- places in value, whose length was looked at
		}
	}
	return true
}

// follow splits an event along the example. Whole is false if it could not: r is
// of no use then. Same is true if nothing but leaves differed.
func (s *Splitter) follow(r *Record, value []byte) (whole, same bool) {
	scan := scanner{data: value}
	same = true
	at, shift, next := 0, 0, 0 // in text, from there to the place in value, the leaf that ends at or behind it
	for {
		at += common(s.text[at:], value[at+shift:])
		for next < len(s.leaves) && s.leaves[next].end < at {
			s.shifts[next] = shift
			next++
		}
		if at == len(s.text) {
			break
		}
		if next == len(s.leaves) {
			return false, false
		}
		s.shifts[next] = shift
		if l := &s.leaves[next]; at >= l.start {
			scan.pos = l.start + shift
			if scan.value(l.depth) != nil {
				return false, false
			}
			at, shift = l.end, scan.pos-l.end
			l.varies = true
			next++
			continue
		}
		// Something else is around the leaves: the member is scanned.
		m := s.memberAt(at)
		if m == nil {
			return false, false
		}
		scan.pos = m.value + s.shifts[m.first]
		if scan.value(1) != nil {
			return false, false
		}
		at, shift, next, same = m.end, scan.pos-m.end, m.after, false
	}
	if at+shift != len(value) || scan.spaced {
		return false, false
	}
	s.shifts[len(s.leaves)] = shift
	r.data = value
	clear(r.fields[:])
	for i := range s.members {
		if m := &s.members[i]; m.field >= 0 {
			r.fields[m.field] = span{uint32(m.value + s.shifts[m.first]), uint32(m.end + s.shifts[m.after])} // #nosec G115 -- places in value, whose length was looked at
		}
	}
	return true, same
}

// memberAt returns the member whose value is at a place of the example.
func (s *Splitter) memberAt(at int) *member {
	for i := range s.members {
		if m := &s.members[i]; m.value <= at && at < m.end {
			return m
		}
	}
	return nil
}

// common returns how many bytes a and b begin with alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
