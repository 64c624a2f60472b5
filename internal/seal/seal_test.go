package seal_test

import (
	"slices"
	"strings"
	"testing"

	"tidegate/internal/seal"
)

const place = "jobs.settings_json/a/1"

func made(t *testing.T, k *seal.Keys, err error) *seal.Keys {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeys(t *testing.T) *seal.Keys {
	t.Helper()
	k, err := seal.New()
	return made(t, k, err)
}

func sealed(t *testing.T, k *seal.Keys, text string) string {
	t.Helper()
	s, err := k.Seal(text, place)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opens(t *testing.T, k *seal.Keys, text, want string) {
	t.Helper()
	if got, err := k.Open(text, place); err != nil || got != want {
		t.Errorf("opened %q as %q, error %v", text, got, err)
	}
}

func refuses(t *testing.T, k *seal.Keys, text, at string, words ...string) {
	t.Helper()
	got, err := k.Open(text, at)
	if err == nil {
		t.Fatalf("opened %q as %q", text, got)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error %q does not say %q", err, word)
		}
	}
}

func TestSealedTextsOpenInTheirPlace(t *testing.T) {
	k := newKeys(t)
	for _, text := range []string{"", "s3://bucket?secret=hunter2", strings.Repeat("long ", 10_000), "sealed:00000000:looks like one"} {
		s := sealed(t, k, text)
		if id, is := seal.KeyOf(s); !is || id != k.Primary() || !strings.HasPrefix(s, seal.Mark(id)) {
			t.Errorf("%q says that it was sealed with %q", s, id)
		}
		if text != "" && strings.Contains(s, text) {
			t.Errorf("%q holds the text", s)
		}
		if s == sealed(t, k, text) {
			t.Error("two sealings of one text are the same")
		}
		opens(t, k, s, text)
		refuses(t, k, s, "jobs.settings_json/b/1", "another place", "jobs.settings_json/b/1", k.Primary())
	}
	opens(t, k, `{"plain":true}`, `{"plain":true}`)
	opens(t, nil, "plain", "plain")
	if s := sealed(t, nil, "plain"); s != "plain" {
		t.Errorf("no key sealed as %q", s)
	}
}

func TestDamagedTextsAreRefused(t *testing.T) {
	k := newKeys(t)
	s := sealed(t, k, "text")
	refuses(t, k, s[:len(s)-2], place, "damaged")
	refuses(t, k, s+"!", place, "damaged")
	other := byte('A')
	if s[len(s)-4] == other {
		other = 'B'
	}
	refuses(t, k, s[:len(s)-4]+string(other)+s[len(s)-3:], place, "damaged")
}

func TestOtherKeysAreNamed(t *testing.T) {
	a, b := newKeys(t), newKeys(t)
	refuses(t, b, sealed(t, a, "text"), place, a.Primary(), "does not have")
	refuses(t, nil, sealed(t, a, "text"), place, a.Primary())
}

func TestKeysAreKeptAsText(t *testing.T) {
	k := newKeys(t)
	text, err := k.Text()
	if err != nil {
		t.Fatal(err)
	}
	read, err := seal.Parse(text)
	opens(t, made(t, read, err), sealed(t, k, "text"), "text")
	for _, bad := range []string{"", "{}", "hunter2", `{"primaryKeyId": 1, "key": []}`} {
		if _, err := seal.Parse([]byte(bad)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("read %q with the error %v", bad, err)
		}
	}
}

// TestRotation goes the way of several processes: a key is everywhere before any of them
// seals with it, and goes when nothing is left that it has sealed.
func TestRotation(t *testing.T) {
	first := newKeys(t)
	old := sealed(t, first, "text")

	added, err := first.Added()
	made(t, added, err)
	if added.Primary() != first.Primary() || len(added.IDs()) != 2 {
		t.Errorf("keys %v, primary %s, after %s", added.IDs(), added.Primary(), first.Primary())
	}
	opens(t, first, sealed(t, added, "staged"), "staged")

	promoted, err := added.Promoted()
	made(t, promoted, err)
	if promoted.Primary() == first.Primary() || !slices.Equal(promoted.IDs(), added.IDs()) {
		t.Errorf("keys %v, primary %s", promoted.IDs(), promoted.Primary())
	}
	fresh := sealed(t, promoted, "text")
	opens(t, promoted, old, "text")
	opens(t, added, fresh, "text")
	refuses(t, first, fresh, place, promoted.Primary())

	retired, err := promoted.Retired()
	made(t, retired, err)
	if got := retired.IDs(); !slices.Equal(got, []string{promoted.Primary()}) {
		t.Errorf("keys %v are left", got)
	}
	opens(t, retired, fresh, "text")
	refuses(t, retired, old, place, first.Primary())
}

// What was sealed opens in its place alone, unchanged alone, and nothing else opens as if it
// had been. Keys that can be read are written as the same again.
func FuzzOpen(f *testing.F) {
	keys, err := seal.New()
	if err != nil {
		f.Fatal(err)
	}
	written, err := keys.Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add("secret", "jobs.conf 7", "jobs.conf 8", uint16(9), byte(1), string(written))
	f.Add("", "", "x", uint16(0), byte('S'^'s'), "{}")
	f.Add("sealed:00000000:", "a", "b", uint16(30), byte('A'^'B'), `{"primaryKeyId":1,"key":[]}`)
	f.Fuzz(func(t *testing.T, text, place, other string, at uint16, flip byte, key string) {
		sealed, err := keys.Seal(text, place)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keys.Open(sealed, place); err != nil || got != text {
			t.Fatalf("%q is opened as %q, %v", text, got, err)
		}
		if got, err := keys.Open(sealed, other); place != other && err == nil {
			t.Errorf("%q, sealed for %q, opens for %q as %q", text, place, other, got)
		}
		changed := []byte(sealed)
		changed[int(at)%len(changed)] ^= flip
		// What is no sealed text any more comes back as it is.
		if got, err := keys.Open(string(changed), place); flip != 0 && err == nil && got != string(changed) {
			t.Errorf("%q, changed to %q, opens as %q", sealed, changed, got)
		}
		if got, err := keys.Open(text, place); err == nil && got != text {
			t.Errorf("%q, which nobody has sealed, opens as %q", text, got)
		}
		read, err := seal.Parse([]byte(key))
		if err != nil {
			return
		}
		back, err := read.Text()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := seal.Parse(back); err != nil || again.Primary() != read.Primary() || !slices.Equal(again.IDs(), read.IDs()) || !read.Has(read.Primary()) {
			t.Errorf("%q was written as %q, %v", key, back, err)
		}
	})
}
