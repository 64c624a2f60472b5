package signature

import (
	"errors"
	"strings"
	"testing"
	"time"
)

const secret = "correct horse battery staple"

var now = time.Unix(1_790_000_000, 0)

func TestSignatureOfAKnownBody(t *testing.T) {
	// echo -n '1790000000.hello' | openssl dgst -sha256 -hmac 'correct horse battery staple'
	const want = "t=1790000000,v1=e97d7c898506e933ad7c99313e5ec3b5d462c6f4976e63826ee0b5a3d8c22f15"
	got, err := Sign(secret, now, strings.NewReader("hello"))
	if err != nil || got != want {
		t.Errorf("the signature is %s, %v; want %s", got, err, want)
	}
}

func TestVerify(t *testing.T) {
	good, err := Sign(secret, now, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	f := func(header, body string, at time.Time, want error) {
		t.Helper()
		if err := Verify(secret, header, strings.NewReader(body), at, 5*time.Minute); !errors.Is(err, want) {
			t.Errorf("%q of %q gave %v, want %v", header, body, err, want)
		}
	}
	zeros := strings.Repeat("00", 32)
	f(good, "body", now, nil)
	f(good, "body", now.Add(5*time.Minute), nil)
	f(good, "body", now.Add(-5*time.Minute), nil)
	f(strings.ReplaceAll(good, ",", ", "), "body", now, nil)
	f(good+",v2=later", "body", now, nil)
	f(good+",v1="+zeros, "body", now, nil)
	f(strings.Replace(good, ",", ",v1="+zeros+",", 1), "body", now, nil)

	f(good, "body", now.Add(6*time.Minute), ErrStale)
	f(good, "body", now.Add(-6*time.Minute), ErrStale)
	f(good, "other", now, ErrMismatch)
	f(strings.Replace(good, "0,", "1,", 1), "body", now, ErrMismatch) // another second
	f("t=1790000000,v1="+zeros, "body", now, ErrMismatch)
	f("t=9223372036854775807,v1="+zeros, "body", now, ErrStale)
	f("t=-9223372036854775808,v1="+zeros, "body", now, ErrStale)

	for _, header := range []string{
		"", "t=1790000000", "v1=" + zeros, "t=,v1=" + zeros, "t=soon,v1=" + zeros, "t=1790000000,v1=", "t=1790000000,v1=00",
		"t=1790000000,v1=" + strings.Repeat("zz", 32), "t=1790000000,t=1790000000,v1=" + zeros,
	} {
		f(header, "body", now, ErrMalformed)
	}
}

func TestAnotherSecretDoesNotVerify(t *testing.T) {
	header, err := Sign("some other secret", now, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(secret, header, strings.NewReader("body"), now, time.Minute); !errors.Is(err, ErrMismatch) {
		t.Errorf("another secret gave %v", err)
	}
}

// Nobody who does not know the secret makes a header that verifies: one that was made for a
// body does for that body and for no other, and whatever is changed of it must not.
func FuzzVerify(f *testing.F) {
	f.Add("t=1790000000,v1="+strings.Repeat("00", 32), "body", "", uint16(0), uint16(0), byte(0))
	f.Add("t=1790000000,v1=,v1=", "", "body", uint16(0), uint16(0), byte(0))
	f.Add(",,t==,", "x", "x", uint16(3), uint16(0), byte('1'^'2'))
	f.Add("", "body", "body", uint16(30), uint16(0), byte('a'^'A'))
	f.Add("v1="+strings.Repeat("00", 32)+", ", "body", "", uint16(0), uint16(5), byte(0))
	f.Fuzz(func(t *testing.T, header, body, other string, at, cut uint16, flip byte) {
		made, err := Sign(secret, now, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sum := made[len(made)-64:]
		verifies := func(header, body string) bool {
			return Verify(secret, header, strings.NewReader(body), now, time.Hour) == nil
		}
		switch {
		case !verifies(made, body) || !verifies("v1="+strings.Repeat("00", 32)+","+made, body):
			t.Fatalf("%q does not verify %q", made, body)
		case verifies(made, body+other) != (other == ""):
			t.Fatalf("%q verifies %q, and %q as well", made, body, body+other)
		case verifies(header, body) && !strings.Contains(strings.ToLower(header), sum):
			t.Fatalf("%q verifies %q", header, body)
		}
		changed := []byte(made)
		changed[int(at)%len(changed)] ^= flip
		if verifies(string(changed), body) && !strings.EqualFold(string(changed), made) {
			t.Fatalf("%q verifies %q as %q does", changed, body, made)
		}
		if short := made[:int(cut)%len(made)]; verifies(short, body) || verifies(header+short, body) && !strings.Contains(strings.ToLower(header+short), sum) {
			t.Fatalf("%q, behind %q or not, verifies %q", short, header, body)
		}
	})
}
