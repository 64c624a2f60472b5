package gateway

import (
	"regexp"
	"strings"

	"tidegate/internal/deploy"
)

// builtInMatchers finds what deploy.RedactionBuiltIns name.
var builtInMatchers = map[deploy.RedactionBuiltIn]func(string) [][]int{
	deploy.RedactTokens:      matcherOf(`(?i)\b(?:bearer|basic|token)[ \t:=+]+[A-Za-z0-9._~+/=-]{6,}|\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`),
	deploy.RedactEmails:      matcherOf(`[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+`),
	deploy.RedactCreditCards: findCards,
	deploy.RedactLongIDs:     findLongIDs,
}

func matcherOf(pattern string) func(string) [][]int {
	compiled := regexp.MustCompile(pattern)
	return func(s string) [][]int { return compiled.FindAllStringIndex(s, -1) }
}

// Lengths of a card's number (ISO/IEC 7812).
const (
	cardDigitsMin = 13
	cardDigitsMax = 19
)

// findCards finds numbers of cards, in digits with at most one space, hyphen or dot
// between two of them. A number may be within a longer run of digits, so every place
// of a run is tried; the issuer's prefix and the check digit keep other numbers from
// being taken for cards, nine times out of ten.
func findCards(s string) (found [][]int) {
	var digits, at []int // of the run at hand
	flush := func() {
		for i := 0; i+cardDigitsMin <= len(digits); {
			n := cardAt(digits[i:])
			if n == 0 {
				i++
				continue
			}
			found = append(found, []int{at[i], at[i+n-1] + 1})
			i += n
		}
		digits, at = digits[:0], at[:0]
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			if len(at) > 0 && at[len(at)-1] < i-2 {
				flush()
			}
			digits, at = append(digits, int(c-'0')), append(at, i)
		case c == ' ' || c == '-' || c == '.' || c == '_' || c == '+':
		default:
			flush()
		}
	}
	flush()
	return found
}

// cardAt returns the length of the longest number of a card at the beginning, or 0.
func cardAt(digits []int) int {
	for n := min(len(digits), cardDigitsMax); n >= cardDigitsMin; n-- {
		if cardIssuer(digits, n) && luhn(digits[:n]) {
			return n
		}
	}
	return 0
}

// cardIssuer reports whether numbers of n digits are issued with this beginning: Visa,
// Mastercard, American Express, Diners Club, Discover, JCB, UnionPay and Maestro.
func cardIssuer(digits []int, n int) bool {
	two := digits[0]*10 + digits[1]
	switch {
	case digits[0] == 4:
		return n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, two >= 22 && two <= 27:
		return n == 16
	case two == 34 || two == 37:
		return n == 15
	case two == 30 || two == 36 || two == 38 || two == 39:
		return n >= 14
	case two == 35:
		return n >= 16
	case digits[0] == 6, two == 50, two >= 56 && two <= 58:
		return true
	}
	return false
}

// luhn is the check of ISO/IEC 7812-1, annex B.
func luhn(digits []int) bool {
	sum := 0
	for i := range digits {
		d := digits[len(digits)-1-i]
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// findLongIDs finds what Cloudflare takes out of URLs for Tail Workers
// (TraceItemFetchEventInfoRequest): runs of letters, digits, '+', '-' and '_' that
// are 32 or more hex digits, or 21 or more characters with at least two capital
// letters, two small ones and two digits.
func findLongIDs(s string) (found [][]int) {
	inID := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '-' || c == '_'
	}
	for i := 0; i < len(s); {
		if !inID(s[i]) {
			i++
			continue
		}
		begin := i
		for i < len(s) && inID(s[i]) {
			i++
		}
		if longID(s[begin:i]) {
			found = append(found, []int{begin, i})
		}
	}
	return found
}

func longID(s string) bool {
	var capital, small, digit, hex, separators int
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			digit++
		case c >= 'A' && c <= 'Z':
			capital++
		case c >= 'a' && c <= 'z':
			small++
		default:
			separators++
		}
		if strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 {
			hex++
		}
	}
	return hex >= 32 && hex+separators == len(s) || len(s) >= 21 && capital >= 2 && small >= 2 && digit >= 2
}
