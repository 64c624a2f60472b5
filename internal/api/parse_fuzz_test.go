package api

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"tidegate/internal/errs"
)

// A challenge is a way to be somebody: none is taken but to the last byte as it was signed, by whoever signed it.
func FuzzReadOwnership(f *testing.F) {
	key := []byte("a key of the tests")
	signed, err := signOwnership(key, claimOwnership("a", "s3://b", time.Unix(1_790_000_000, 0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed, "a", "s3://b", int64(1_790_000_000))
	f.Add(signed[:len(signed)-1], "", "", int64(0))
	f.Add("eyJhbGciOiJub25lIn0."+signed[len(ownershipHeader)+1:], "\xff", "\x00", int64(-1))
	f.Fuzz(func(t *testing.T, challenge, account, conf string, expires int64) {
		claims, err := readOwnership(key, challenge)
		if err == nil {
			if again, err := signOwnership(key, claims); err != nil || again != challenge {
				t.Fatalf("%q was taken as %+v, which is signed as %q, %v", challenge, claims, again, err)
			}
		}
		want := claimOwnership(account, conf, time.Unix(expires, 0))
		made, err := signOwnership(key, want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readOwnership([]byte("another key"), made); err == nil {
			t.Fatalf("%q was taken with another key, as %+v", made, got)
		}
		got, err := readOwnership(key, made)
		if err != nil || got.Destination != want.Destination || got.ExpiresOn != want.ExpiresOn {
			t.Fatalf("%+v was signed and read as %+v, %v", want, got, err)
		}
	})
}

// A step that is taken is whole seconds, and the text that it is shown as means the same.
func FuzzParseStep(f *testing.F) {
	for _, seed := range []string{"300", "300s", "5m", "1h30m", "0", "-5m", "1.5s", "9223372036854775807", "1e3", "+5s"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		step, err := parseStep(text)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if again, err := parseStep(step.String()); err != nil || again != step || step < time.Second || step%time.Second != 0 {
			t.Fatalf("%q is %s, then %s, %v", text, step, again, err)
		}
	})
}

// Rules that are taken are valid and, sent back as they are answered, mean the same again.
func FuzzDecodeSettings(f *testing.F) {
	for _, seed := range []string{
		`{"head_sampling_rate":0.01}`, `{"head_sampling_rate":1e-400}`, `{"head_sampling_rate":null}`,
		`{"headers":["a"],"built_ins":["emails"]}`, `{"paths":["/a/*/b"],"patterns":["a+"],"query_parameters":["\u212a"]}`, `{"unknown":["x"]}`, `{"patterns":["(?i)a{1000}{1000}"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sampling, err := decodeSampling(text)
		sameAgain(t, text, sampling, err, decodeSampling)
		redaction, err := decodeRedaction(text)
		sameAgain(t, text, redaction, err, decodeRedaction)
	})
}

func sameAgain[T any](t *testing.T, text []byte, got T, err error, decode func([]byte) (T, error)) {
	t.Helper()
	if err != nil {
		if errs.KindOf(err) != errs.Invalid {
			t.Fatalf("%q: %v", text, err)
		}
		return
	}
	answer, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decode(answer)
	if err != nil {
		t.Fatalf("%q was answered %s, which is refused: %v", text, answer, err)
	}
	if back, err := json.Marshal(again); err != nil || string(back) != string(answer) {
		t.Fatalf("%q was answered %s, which is answered %s, error %v", text, answer, back, err)
	}
}

// A merge patch of secrets edits exactly the names that it has, and removes those that it has as null.
func FuzzDecodeEdits(f *testing.F) {
	for _, seed := range []string{
		`{"A":{"type":"secret_text","text":"x"},"B":null}`, `{"A":{"name":"A","type":"plain_text","text":""}}`, `{"A":{"name":"B","type":"secret_text","text":"x"}}`,
		`{"A":{"type":"service","service":"shop","props":{"a":1}}}`, `{"":null}`, `{"A":{"type":"json","json":null}}`, `{"A":{"type":"kv_namespace"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var patch map[string]json.RawMessage
		if decodeStrict(text, &patch) != nil {
			return
		}
		edits, err := decodeEdits(patch, place{}.member("secrets"))
		if err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if len(edits) != len(patch) {
			t.Fatalf("%q has %d edits", text, len(edits))
		}
		for name, edit := range edits {
			if (edit == nil) != (string(patch[name]) == "null") || edit != nil && edit.Name != name {
				t.Fatalf("%q: %q became %+v", text, name, edit)
			}
		}
		if again, err := decodeEdits(patch, place{}); err != nil || !reflect.DeepEqual(again, edits) {
			t.Fatalf("%q means %+v and %+v, %v", text, edits, again, err)
		}
	})
}
