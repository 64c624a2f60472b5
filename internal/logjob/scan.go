package logjob

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// maxDepth of nested values; encoding/json's own limit.
const maxDepth = 10000

// scanner walks one JSON text without decoding it. Every step checks the syntax
// as strictly as encoding/json does, so that a value which was walked can be
// copied into an output as it is.
type scanner struct {
	data   []byte
	pos    int
	spaced bool    // there was white space outside strings
	leaves *[]leaf // notes those of the values that were walked, up to leavesMax; nil is no need
}

// space skips white space and returns the next byte, 0 at the end. Most events
// have none: the test of the first byte is to be inlined.
func (s *scanner) space() byte {
	if s.pos < len(s.data) && s.data[s.pos] > ' ' {
		return s.data[s.pos]
	}
	return s.skipSpace()
}

func (s *scanner) skipSpace() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
			s.spaced = true
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) fail(want string) error {
	if s.pos >= len(s.data) {
		return fmt.Errorf("the JSON text ends where %s should be", want)
	}
	return fmt.Errorf("the JSON text has %q at byte %d where %s should be", s.data[s.pos], s.pos, want)
}

// members calls f with the name, quotes included, and the value of each member
// of the object that is the whole of data. The slices point into data. The error
// of f ends the walk.
func members(data []byte, f func(name, value []byte) error) error {
	s := scanner{data: data}
	return s.members(f)
}

func (s *scanner) members(f func(name, value []byte) error) error {
	data := s.data
	if s.space() != '{' {
		return s.fail("an object")
	}
	s.pos++
	if s.space() == '}' {
		s.pos++
		return s.end()
	}
	for {
		s.space()
		start := s.pos
		if err := s.string(); err != nil {
			return err
		}
		name := data[start:s.pos]
		if s.space() != ':' {
			return s.fail("a colon")
		}
		s.pos++
		s.space()
		start = s.pos
		if err := s.value(1); err != nil {
			return err
		}
		if err := f(name, data[start:s.pos]); err != nil {
			return err
		}
		switch s.space() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return s.end()
		default:
			return s.fail("a comma or the object's end")
		}
	}
}

// elements calls f with each element of the array that is the whole of data,
// until f returns false.
func elements(data []byte, f func(value []byte) bool) error {
	s := scanner{data: data}
	if s.space() != '[' {
		return s.fail("an array")
	}
	s.pos++
	if s.space() == ']' {
		s.pos++
		return s.end()
	}
	for {
		s.space()
		start := s.pos
		if err := s.value(1); err != nil {
			return err
		}
		if !f(data[start:s.pos]) {
			return nil
		}
		switch s.space() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return s.end()
		default:
			return s.fail("a comma or the array's end")
		}
	}
}

func (s *scanner) end() error {
	if s.space(); s.pos < len(s.data) {
		return s.fail("the end")
	}
	return nil
}

// value skips one value, which begins at pos.
func (s *scanner) value(depth int) error {
	if s.leaves == nil {
		return s.any(depth)
	}
	start := s.pos
	if err := s.any(depth); err != nil {
		return err
	}
	const empty = len("{}")
	if c := s.data[start]; (c != '{' && c != '[' || s.pos-start == empty) && len(*s.leaves) < leavesMax {
		*s.leaves = append(*s.leaves, leaf{start: start, end: s.pos, depth: depth})
	}
	return nil
}

func (s *scanner) any(depth int) error {
	if s.pos >= len(s.data) {
		return s.fail("a value")
	}
	switch s.data[s.pos] {
	case '"':
		return s.string()
	case '{':
		return s.nested(depth, '}', true)
	case '[':
		return s.nested(depth, ']', false)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

// nested skips an object (named) or an array.
func (s *scanner) nested(depth int, end byte, named bool) error {
	if depth >= maxDepth {
		return errors.New("the JSON text is nested too deeply")
	}
	s.pos++
	if s.space() == end {
		s.pos++
		return nil
	}
	for {
		if named {
			s.space()
			if err := s.string(); err != nil {
				return err
			}
			if s.space() != ':' {
				return s.fail("a colon")
			}
			s.pos++
		}
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		switch s.space() {
		case ',':
			s.pos++
		case end:
			s.pos++
			return nil
		default:
			return s.fail("a comma or a closing bracket")
		}
	}
}

// plain marks the bytes that stand for themselves inside a string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < len(t); c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func (s *scanner) string() error {
	if s.pos >= len(s.data) || s.data[s.pos] != '"' {
		return s.fail("a string")
	}
	data, i := s.data, s.pos+1
	for i < len(data) {
		// Fast path - eight bytes at a time, up to one that is not plain.
		for i+8 <= len(data) {
			if m := notPlain(binary.LittleEndian.Uint64(data[i:])); m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
			i += 8
		}
		for i < len(data) && plain[data[i]] {
			i++
		}
		if i >= len(data) {
			break
		}
		switch data[i] {
		case '"':
			s.pos = i + 1
			return nil
		case '\\':
			n := escapeLen(data[i:])
			if n == 0 {
				s.pos = i
				return s.fail("a valid escape")
			}
			i += n
		default:
			s.pos = i
			return s.fail("an escaped control character")
		}
	}
	s.pos = i
	return s.fail("a closing quote")
}

// notPlain returns a word whose lowest set bit is the highest one of the first
// byte in w that is not plain; 0 when all eight are. Bits above may be wrong: the
// subtractions borrow from the bytes after a match.
func notPlain(w uint64) uint64 {
	const each, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^each*'"', w^each*'\\'
	return ((w-each*0x20)&^w | (quote-each)&^quote | (backslash-each)&^backslash) & high
}

// escapeLen returns the length of the escape sequence that b begins with, 0 when
// it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

func (s *scanner) literal(word string) error {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail("a value")
	}
	s.pos += len(word)
	return nil
}

// number skips -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (s *scanner) number() error {
	if s.peek() == '-' {
		s.pos++
	}
	if s.peek() == '0' {
		s.pos++
	} else if !s.digits() {
		return s.fail("a value")
	}
	if s.peek() == '.' {
		s.pos++
		if !s.digits() {
			return s.fail("a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		if c := s.peek(); c == '+' || c == '-' {
			s.pos++
		}
		if !s.digits() {
			return s.fail("a digit")
		}
	}
	return nil
}

func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) digits() bool {
	data, i := s.data, s.pos
	for i < len(data) && data[i]-'0' <= 9 {
		i++
	}
	found := i > s.pos
	s.pos = i
	return found
}
