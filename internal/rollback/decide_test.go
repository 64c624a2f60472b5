package rollback

import "testing"

func TestCutKeepsCharactersWhole(t *testing.T) {
	f := func(s string, n int, want string) {
		t.Helper()
		if got := cut(s, n); got != want {
			t.Errorf("cut(%q, %d) = %q, want %q", s, n, got, want)
		}
	}
	f("abc", 3, "abc")
	f("abcd", 3, "abc")
	f("a≤b", 3, "a")
	f("a≤b", 4, "a≤")
	f("≤", 2, "")
}
