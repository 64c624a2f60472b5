package lines

import "encoding/binary"

const (
	each    = 0x0101010101010101
	topBits = each * 0x80
)

// What may stand where in a header, as tables and in words of eight bytes: these
// checks see every byte of every head, in both directions.

// headerCase maps the bytes of a token (RFC 9110, section 5.6.2), first to lower and
// then to upper case. All others become 0.
var headerCase = func() (t [2][256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789") {
		t[0][c], t[1][c] = c, c
	}
	for c := byte('a'); c <= 'z'; c++ {
		upper := c - 'a' + 'A'
		t[0][c], t[0][upper] = c, c
		t[1][c], t[1][upper] = upper, upper
	}
	return t
}()

// CanonicalName finds the token that b begins with, writes it there as
// http.CanonicalHeaderKey has it, and returns its length.
func CanonicalName(b []byte) int {
	word := 1 // its first letter is upper case, the others are lower
	for i, octet := range b {
		c := headerCase[word][octet]
		if c == 0 {
			return i
		}
		b[i], word = c, 0
		if c == '-' {
			word = 1
		}
	}
	return len(b)
}

// ValidName reports whether s is a token, as a header's name must be.
func ValidName(s string) bool {
	for i := range len(s) {
		if headerCase[0][s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// ValidValue reports whether b may be the value of a header: it has no control
// character but tabs (RFC 9110, section 5.5). Bytes above 127 have no meaning and are
// let through, as everywhere.
func ValidValue(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if hasControl(binary.LittleEndian.Uint64(b)) && !validBytes(b[:8]) {
			return false
		}
	}
	return validBytes(b)
}

// PlainValue reports whether ValidValue does, and b is ASCII.
func PlainValue(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if x := binary.LittleEndian.Uint64(b); x&topBits != 0 || hasControl(x) && !validBytes(b[:8]) {
			return false
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return validBytes(b)
}

func validBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// hasControl reports whether one of eight bytes is a control character. Subtracting
// sets the top bit of a byte that is smaller; those that had it set before are masked.
func hasControl(x uint64) bool {
	del := x ^ each*0x7f // is 0 where there was one
	return ((x-each*' ')&^x|(del-each)&^del)&topBits != 0
}
