package runtime

import "encoding/binary"

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

func validToken(s string) bool {
	for i := range len(s) {
		if headerCase[0][s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// validValue reports whether b may be the value of a header: it has no control
// character but tabs (RFC 9110, section 5.5). Bytes above 127 have no meaning and are
// let through, as everywhere.
func validValue(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if hasControl(binary.LittleEndian.Uint64(b)) && !validBytes(b[:8]) {
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
	const each = 0x0101010101010101
	del := x ^ each*0x7f // is 0 where there was one
	return ((x-each*' ')&^x|(del-each)&^del)&(each*0x80) != 0
}
