package gateway

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"tidegate/schema/control"
)

// Whatever a browser or a client sends as cookies, a backend gets none of the dashboard's, and
// every other one as it was, in its order.
func FuzzWithoutSessions(f *testing.F) {
	f.Add("a=1; tidegate-session=secret; b=2", "")
	f.Add("__Host-tidegate-session-sign-in=secret", "tidegate-session")
	f.Add(" tidegate-session =secret;;a=tidegate-session=1", "tidegate-sessions=1; Tidegate-Session=2")
	f.Add("tidegate-session=\"a;b\"; c", "\ttidegate-session\t=1")
	f.Fuzz(func(t *testing.T, first, second string) {
		lines := []string{first, second}
		kept := withoutSessions(slices.Clone(lines))
		named := func(lines []string) (others []string, sessions int) {
			for _, line := range lines {
				for pair := range strings.SplitSeq(line, ";") {
					name, _, _ := strings.Cut(pair, "=")
					switch pair = strings.Trim(pair, " \t\r\n"); {
					case control.IsSessionCookie(strings.Trim(name, " \t\r\n")):
						sessions++
					case pair != "":
						others = append(others, pair)
					}
				}
			}
			return others, sessions
		}
		want, _ := named(lines)
		got, sessions := named(kept)
		if sessions > 0 || !slices.Equal(got, want) {
			t.Errorf("%q became %q", lines, kept)
		}
		for _, c := range (&http.Request{Header: http.Header{"Cookie": kept}}).Cookies() {
			if control.IsSessionCookie(c.Name) {
				t.Errorf("%q became %q, with the cookie %s", lines, kept, c.Name)
			}
		}
	})
}

// What is left of a target has no value of a parameter with a sensitive name, however that is
// written, and everything else as it was.
func FuzzRedactQuery(f *testing.F) {
	f.Add("/a", "api_KEY", "b=3")
	f.Add("/a?x;y=1", "%2574oken", "c")
	f.Add("/a?x", `\u0074oken`, "c&d;e")
	f.Add("/a?x", "ｔｏｋｅｎ", "")
	f.Fuzz(func(t *testing.T, before, name, after string) {
		const secret = "s3cr3tv4lue"
		if strings.Contains(before+name+after, secret) || strings.ContainsAny(name, "?&;=") {
			return
		}
		separator := "?"
		if strings.Contains(before, "?") {
			separator = "&"
		}
		target := before + separator + name + "=" + secret + "&" + after
		got := redactQuery(target)
		if isSensitive(plain(name)) == strings.Contains(got, secret) {
			t.Errorf("%q became %q", target, got)
		}
		if again := redactQuery(got); again != got {
			t.Errorf("%q became %q, and that %q", target, got, again)
		}
		path, _, _ := strings.Cut(target, "?")
		if rest, _, _ := strings.Cut(got, "?"); rest != path {
			t.Errorf("the path of %q became %q", target, rest)
		}
	})
}

// Whatever other networks write, a request that has been here is known, once for each time.
func FuzzLoop(f *testing.F) {
	f.Add("a, Own.Example;x=1", ",")
	f.Add("\town.example ;", "own.example.com")
	f.Add("\"own.example, b\"", "")
	const id = "own.example"
	g := &Gateway{cfg: Config{LoopID: id}, loop: []string{id}}
	f.Fuzz(func(t *testing.T, first, second string) {
		for _, before := range [][]string{nil, {first}, {first, second}} {
			times := g.passed(before)
			if after := g.passed(g.loopWith(before)); after != times+1 {
				t.Errorf("%q was here %d times, and %d with this one", before, times, after)
			}
			if joined := g.passed([]string{strings.Join(before, ", ")}); joined != times {
				t.Errorf("%q was here %d times, and %d in one line", before, times, joined)
			}
			if times > strings.Count(strings.ToLower(strings.Join(before, "\n")), id) {
				t.Errorf("%q was here %d times", before, times)
			}
		}
	})
}
