package main

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

func TestTimeThatIsNow(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	if at, err := timeFlag(jobsReplay(newConnection()), "to", "now"); err != nil || at.Before(before) || at.After(time.Now()) {
		t.Errorf("%v, error %v", at, err)
	}
}

// What --since takes, a flag for a length refused.
func TestLengthsInDays(t *testing.T) {
	const days = 30 * 24 * time.Hour
	before := time.Now()
	api := func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			ExpiresOn time.Time `json:"expires_on"`
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		if at := asked.ExpiresOn; at.Before(before.Add(days).Truncate(time.Second)) || at.After(time.Now().Add(days)) {
			t.Errorf("the token ends at %s", at)
		}
		answers(t, `{"id": "t1"}`)(w, r)
	}
	if _, err := output(t, http.HandlerFunc(api), "token", "create", "--name", "ci", "--scope", "scripts:edit", "--expires-in", "30d"); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]int64{"30d": 30 * 24 * 60 * 60, "0d": 0, "90s": 90, "1h30m": 5400} {
		if got, err := parseSeconds(text); err != nil || got != want {
			t.Errorf("%q is %d, error %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "99999999d", "1500ms"} {
		if got, err := parseSeconds(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
