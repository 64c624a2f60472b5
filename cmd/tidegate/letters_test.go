package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tidegate/internal/api/client"
)

// resent is an answer about letters, of which those that end in "!" were not taken.
func resent(left int, ids ...string) string {
	all := client.ResentAll{Letters: []client.Resent{}, Left: left}
	for _, id := range ids {
		one := client.Resent{ID: strings.TrimSuffix(id, "!"), State: "resent"}
		if one.ID != id {
			one.State, one.Error = "new", new("status 503")
		}
		all.Letters = append(all.Letters, one)
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// One request sends 100 letters at most. Nothing told to ask again.
func TestAllDeadLettersAreSent(t *testing.T) {
	f := func(want string, args []string, rounds ...string) {
		t.Helper()
		asked := 0
		next := answers(t, rounds...)
		api := func(w http.ResponseWriter, r *http.Request) { asked++; next(w, r) }
		out, err := output(t, http.HandlerFunc(api), append([]string{"jobs", "dead-letters", "resend", "3"}, args...)...)
		if err != nil || !strings.Contains(out, want) || asked != len(rounds) {
			t.Errorf("%q: no %q in %q, error %v; %d of %d calls", args, want, out, err, asked, len(rounds))
		}
	}
	all := []string{"--all"}
	f("2 tried, 0 of them not taken, 123 left\nRun it again", nil, resent(123, "a", "b"))
	f("2 tried, 1 of them not taken, 0 left\n", nil, resent(0, "a", "b!"))
	f("b was taken\nc was taken\n3 tried, 0 of them not taken, 0 left\n", all, resent(2, "a", "b!"), resent(0, "b", "c"))
	f("3 tried, 2 of them not taken, 1 left\n", all, resent(3, "a", "b!"), resent(1, "b!", "c!")) // it goes on for no one
	f("0 tried, 0 of them not taken, 4 left\n", all, resent(4))                                   // another request has them
	f(`"left": 0`, []string{"--all", "--json"}, resent(1, "a"), resent(0, "b"))
	f(`"id": "a"`, []string{"--all", "--json"}, resent(1, "a"), resent(0, "b"))
	out, err := output(t, answers(t, resent(1, "a"), `"what is no answer"`), "jobs", "dead-letters", "resend", "3", "--all")
	if err == nil || !strings.Contains(out, "1 tried, 0 of them not taken, 1 left") {
		t.Errorf("a round that failed: %q, error %v", out, err)
	}
}

func TestAllDeadLettersAreDeleted(t *testing.T) {
	var waiting []string
	for i := range 2*lettersPage + 7 {
		waiting = append(waiting, fmt.Sprintf("%032x", i))
	}
	var gone []string
	api := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
			gone = append(gone, id)
			if id == waiting[3] {
				w.WriteHeader(http.StatusConflict)
				fmt.Fprint(w, `{"success": false, "errors": [{"code": 1, "message": "it was sent meanwhile"}]}`)
				return
			}
			fmt.Fprint(w, `{"success": true, "result": {}}`)
			return
		}
		page, err := strconv.Atoi(r.URL.Query().Get("page"))
		if err != nil || r.URL.Query().Get("state") != "new" {
			t.Errorf("asked %s", r.URL)
		}
		var list []map[string]string
		for _, id := range waiting[min(len(waiting), (page-1)*lettersPage):min(len(waiting), page*lettersPage)] {
			list = append(list, map[string]string{"id": id})
		}
		text, err := json.Marshal(map[string]any{"success": true, "result": list, "result_info": map[string]int{"total_count": len(waiting)}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	}
	out, err := output(t, http.HandlerFunc(api), "jobs", "dead-letters", "delete", "3", "--all", "--yes")
	if err != nil || out != "Deleted 206\n" || !slices.Equal(gone, waiting) {
		t.Errorf("%q, error %v; deleted %d of %d", out, err, len(gone), len(waiting))
	}
	f := func(args ...string) {
		t.Helper()
		if status := run(t, answers(t), append([]string{"jobs", "dead-letters"}, args...)...); status != 2 {
			t.Errorf("%q ended with %d, want 2", args, status)
		}
	}
	f("delete", "3", "--all") // nobody can be asked
	f("delete", "3", "--all", "--yes", waiting[0])
	f("delete", "3")
	f("resend", "3", waiting[0], "--all")
}
