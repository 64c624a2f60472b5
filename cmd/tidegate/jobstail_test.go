package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"tidegate/schema"
)

// A session outlives its listeners by minutes, in which the same command was refused.
func TestTailJoinsTheSessionThatIsThere(t *testing.T) {
	sessions := ""
	api := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/instant-logs/"):
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Write(r.Context(), websocket.MessageText, []byte(`{"Outcome":"ok"}`+"\n"))
			_ = conn.Close(websocket.StatusNormalClosure, "the session is over")
		case r.Method == http.MethodGet:
			fmt.Fprintf(w, `{"success": true, "result": [%s]}`, strings.ReplaceAll(sessions, "HOST", r.Host))
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"success": false, "errors": [{"code": 1004, "message": "exceeded max jobs allowed"}]}`)
		}
	}
	const heard, other = `{"Outcome":"ok"}` + "\n", "the account has one with --fields "
	f := func(fields, filter string, sample int, out, words string, args ...string) {
		t.Helper()
		sessions = fmt.Sprintf(`{"destination_conf": "ws://HOST/instant-logs/ws/sessions/x", "fields": %q, "filter": %q, "sample": %d}`, fields, filter, sample)
		got, err := output(t, http.HandlerFunc(api), append([]string{"jobs", "tail"}, args...)...)
		if err == nil || got != out || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %q, error %v", args, got, err)
		}
	}
	all := strings.Join(schema.DefaultFields(), ",")
	f(all, "", 1, heard, "the session is over")
	f("Outcome", "", 5, heard, "the session is over", "--fields", "Outcome", "--sample", "5")
	f("Outcome", `{"where":"it's"}`, 1, "", other+`'Outcome' --filter '{"where":"it'\''s"}' --sample 1: give these to join it`, "--fields", "Outcome")
	f(all, "", 2, "", "tidegate tail SCRIPT")
	f(all, "", 1, "", "exceeded max jobs allowed", "--fields", "Nothing") // which is refused of itself
	sessions = ""
	if _, err := output(t, http.HandlerFunc(api), "jobs", "tail"); err == nil || !strings.Contains(err.Error(), "exceeded max jobs allowed") {
		t.Errorf("without a session: error %v", err)
	}
}
