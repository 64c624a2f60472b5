package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

func redactorOf(t testing.TB, rules deploy.Redaction) *redactor {
	t.Helper()
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	return compileRedaction(&deploy.SnapshotScript{Redaction: &rules}, nil, func(format string, args ...any) { t.Errorf(format, args...) })
}

// redactingGateway is watchedGateway's with rules.
func redactingGateway(t *testing.T, rules deploy.Redaction) (*Gateway, *collected, *watching) {
	t.Helper()
	if err := rules.Validate(); err != nil {
		t.Fatal(err)
	}
	g, events, w := watchedGateway(t)
	s := *g.latest
	s.Scripts = slices.Clone(s.Scripts)
	s.Scripts[0].Redaction = &rules
	s.Revision++
	if err := g.accept(&s); err != nil {
		t.Fatal(err)
	}
	return g, events, w
}

// disguises are ways to write a text that people and programs read as the same.
var disguises = map[string]func(string) string{
	"plain":          func(s string) string { return s },
	"percent":        percentAll,
	"percent twice":  func(s string) string { return percentAll(percentAll(s)) },
	"query escape":   url.QueryEscape,
	"path escape":    url.PathEscape,
	"unicode escape": func(s string) string { return each(s, func(r rune) string { return fmt.Sprintf(`\u%04x`, r) }) },
	"full width": func(s string) string {
		return each(s, func(r rune) string {
			if r > ' ' && r < 0x7f {
				return string(r + 0xfee0)
			}
			return string(r)
		})
	},
	"zero width": func(s string) string { return each(s, func(r rune) string { return string(r) + "\u200b" }) },
	"soft hyphen, percent": func(s string) string {
		return percentAll(each(s, func(r rune) string { return string(r) + "\u00ad" }))
	},
}

func each(s string, f func(rune) string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteString(f(r))
	}
	return b.String()
}

func percentAll(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02x", s[i])
	}
	return b.String()
}

// secrets are what rules about text take out.
var secrets = map[string]struct {
	text  string
	rules deploy.Redaction
}{
	"pattern":     {"SSN-123-45-6789", deploy.Redaction{Patterns: []string{`SSN-\d{3}-\d{2}-\d{4}`}}},
	"e-mail":      {"alice.o'neil@mail.example.com", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactEmails}}},
	"card":        {"4111-1111-1111-1111", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactCreditCards}}},
	"bare card":   {"378282246310005", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactCreditCards}}},
	"web token":   {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactTokens}}},
	"bearer":      {"Bearer 0123abcdef", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactTokens}}},
	"hex id":      {"0f0a6a3c-6c1c-4f1f-9c77-b6b2f6d6c0a1", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactLongIDs}}},
	"base-64 id":  {"AbCdEf0123456789xyzXYZ", deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactLongIDs}}},
	"two at once": {"a@b.example", deploy.Redaction{Patterns: []string{"nothing"}, BuiltIns: deploy.RedactionBuiltIns}},
}

// wantGone fails if any output has the secret, in the disguise in which it was
// planted or read back from it.
func wantGone(t *testing.T, what, secret, planted string, events *collected, w *watching) {
	t.Helper()
	outputs := []string{}
	events.mu.Lock()
	list := slices.Clone(events.list)
	events.mu.Unlock()
	for _, e := range list {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(outputs, saidIn(t, string(text)))
	}
	for _, c := range w.all() {
		outputs = append(outputs, saidIn(t, c.value)+c.clientIP)
	}
	if len(outputs) < 2 {
		t.Fatalf("%s: %d outputs: an event and its copy are expected", what, len(outputs))
	}
	for _, out := range outputs {
		if strings.Contains(out, secret) || strings.Contains(out, planted) || strings.Contains(plain(out), secret) {
			t.Errorf("%s: %q is in %s", what, planted, out)
		}
		if !strings.Contains(out, redacted) {
			t.Errorf("%s: nothing was taken out of %s: then this test plants nothing", what, out)
		}
	}
}

// saidIn returns all strings of a JSON value, as who reads it gets them.
func saidIn(t *testing.T, text string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var b strings.Builder
	var walk func(any)
	walk = func(value any) {
		switch v := value.(type) {
		case string:
			b.WriteString(v + "\n")
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for name, x := range v {
				b.WriteString(name + "\n")
				walk(x)
			}
		}
	}
	walk(value)
	return b.String()
}

// A secret that a rule names is in no output, wherever it was and however it was written.
func TestPlantedSecretsNeverLeave(t *testing.T) {
	for name, secret := range secrets {
		for disguise, write := range disguises {
			t.Run(name+"/"+disguise, func(t *testing.T) {
				planted := write(secret.text)
				g, events, w := redactingGateway(t, secret.rules)
				fetch := func(target string, lines ...string) {
					t.Helper()
					r := parse(t, "/", lines...)
					x := exchangeOf(g, testVersion, newRay(time.Now()))
					g.record(ask(r), target, x, nil)
				}
				inURL := planted
				if strings.ContainsAny(planted, " ") {
					inURL = strings.ReplaceAll(planted, " ", "%20")
				}
				fetch("/a/" + inURL + "/b")
				fetch("/a?q=1&x=" + inURL + "&y=2")
				fetch("/a?" + inURL + "=1")
				fetch("/"+strings.Repeat("a", eventURLBytesMax-8-len(inURL)/2)+"/"+inURL, "X-Other: "+planted)
				fetch("/x?q="+inURL, "Referer: https://a.example/"+inURL, "User-Agent: "+planted+" x", "Content-Type: text/"+planted)
				wantGone(t, "request", secret.text, planted, events, w)
			})
			t.Run(name+"/"+disguise+"/runtime", func(t *testing.T) {
				planted := write(secret.text)
				quoted, err := json.Marshal(map[string]any{"a": []any{planted}, planted: 1, "b": map[string]any{"c": "x " + planted + " y"}})
				if err != nil {
					t.Fatal(err)
				}
				text, err := json.Marshal("said " + planted + ".")
				if err != nil {
					t.Fatal(err)
				}
				g, events, w := redactingGateway(t, secret.rules)
				for range 2 {
					inv := schema.Invocation{EventType: "email", TimestampMs: 1_790_000_000_000, Outcome: schema.OutcomeOK,
						Exceptions: []schema.Exception{{Name: planted, Message: "no " + planted, Stack: "at " + planted + "\n at"}},
						Logs:       []schema.Log{{Level: "log", Message: []json.RawMessage{text, quoted}}},
						Event:      json.RawMessage(`{"MailFrom":` + string(text) + `,"RcptTo":` + string(text) + `,"RawSize":12}`)}
					g.Invocation(testVersion, inv)
				}
				wantGone(t, "invocation", secret.text, planted, events, w)
			})
		}
	}
}

// What a console call says may be spread over its arguments, and a number may be one
// of a card.
func TestLogsAreReadAsLines(t *testing.T) {
	red := redactorOf(t, deploy.Redaction{BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactTokens, deploy.RedactCreditCards}})
	f := func(want string, message ...string) {
		t.Helper()
		l := schema.Log{}
		for _, m := range message {
			l.Message = append(l.Message, json.RawMessage(m))
		}
		red.log(&l)
		got, err := json.Marshal(l.Message)
		if err != nil || string(got) != want {
			t.Errorf("%s became %s, want %s (%v)", message, got, want, err)
		}
	}
	f(`["token","is","REDACTED","REDACTED","end"]`, `"token"`, `"is"`, `"Bearer"`, `"abcdef123"`, `"end"`)
	f(`["card","REDACTED",12,true,null]`, `"card"`, `4111111111111111`, `12`, `true`, `null`)
	f(`[{"n":"REDACTED","m":[1.5e3,"REDACTED"]}]`, `{"n": 4111111111111111, "m":[1.5e3,"4111 1111 1111 1111"]}`)
	f(`["REDACTED"]`, `not json`)
	f(`["1790000000000","4111111111111112"]`, `"1790000000000"`, `"4111111111111112"`)
}

func TestNamedPlacesAreTakenOut(t *testing.T) {
	red := redactorOf(t, deploy.Redaction{
		Headers: []string{"X-Customer"}, QueryParameters: []string{"email", "näme"}, Paths: []string{"/users/*/cards/*", "/räume/*"},
	})
	f := func(in, want string) {
		t.Helper()
		if got := red.url(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
	f("https://a.example/users/7/cards/8/x?email=a%40b&page=2", "https://a.example/users/REDACTED/cards/REDACTED/x?email=REDACTED&page=2")
	f("https://a.example/users/7/orders/8", "https://a.example/users/7/orders/8")
	f("https://a.example/%75sers/7/cards/8", "https://a.example/%75sers/REDACTED/cards/REDACTED")
	f("https://a.example/r%C3%A4ume/7", "https://a.example/r%C3%A4ume/REDACTED")
	f("https://a.example?email=1", "https://a.example?email=REDACTED")
	f("https://a.example/?%65mail=1&n%C3%A4me=2&Email=3&email", "https://a.example/?%65mail=REDACTED&n%C3%A4me=REDACTED&Email=3&email")
	f("https://a.example/?a=1;email=2;b=3", "https://a.example/?a=1;email=REDACTED;b=3")
	f("https://a.example/?email=%zz%4", "https://a.example/?email=REDACTED")
	f("/users/7", "/users/7")
	f("", "")
	if got := red.header("x-CUSTOMER", "7"); got != redacted {
		t.Errorf("the header became %s", got)
	}
	if got := red.header("Referer", "https://a.example/users/7/cards/8"); strings.Contains(got, "7") || strings.Contains(got, "8") {
		t.Errorf("the referrer became %s", got)
	}
}

// The default takes out what Cloudflare's does, also of names that are percent-encoded.
func TestSensitiveParametersAreTakenOutByDefault(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := redactQuery(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
	f("/?a=1&api_KEY=2&b=3", "/?a=1&api_KEY=REDACTED&b=3")
	f("/?%74oken=2&b=%20", "/?%74oken=REDACTED&b=%20")
	f("/?%2574oken=2", "/?%2574oken=REDACTED")
	f(`/?\u0074oken=2&a=b`, `/?\u0074oken=REDACTED&a=b`)
	f("/?ｔｏｋｅｎ=2", "/?ｔｏｋｅｎ=REDACTED")
}

// A rule of a newer control plane, which this gateway does not understand, must not
// let through what it is to keep back.
func TestUnknownRulesTakeEverythingOut(t *testing.T) {
	// As the snapshot is read from the control plane, and again from this gateway's disk.
	var newer deploy.Redaction
	text := []byte(`{"headers":["x-a"],"cookies":{"kind":"all"}}`)
	for range 2 {
		newer = deploy.Redaction{}
		err := json.Unmarshal(text, &newer)
		if text, _ = json.Marshal(newer); err != nil || len(newer.Headers) != 1 {
			t.Fatal(newer, err)
		}
	}
	for _, rules := range []deploy.Redaction{{BuiltIns: []deploy.RedactionBuiltIn{"passports"}}, {Patterns: []string{"("}}, newer} {
		warned := 0
		red := compileRedaction(&deploy.SnapshotScript{Redaction: &rules}, nil, func(string, ...any) { warned++ })
		inv := &schema.Invocation{
			Exceptions: []schema.Exception{{Name: "secret", Message: "secret", Stack: "secret"}},
			Logs:       []schema.Log{{Message: []json.RawMessage{json.RawMessage(`{"secret":1}`), json.RawMessage(`2`)}}},
			Event:      json.RawMessage(`{"Queue":"secret","BatchSize":3,"Request":{"URL":"https://a.example/secret?secret","Headers":{"x":"secret"}}}`),
		}
		red.invocation(inv)
		text, err := json.Marshal(inv)
		if err != nil || strings.Contains(string(text), "secret") || warned != 1 {
			t.Errorf("%+v leaves %s, %d warnings, %v", rules, text, warned, err)
		}
		if got := red.url("https://a.example/secret?secret") + red.header("x", "secret"); strings.Contains(got, "secret") {
			t.Errorf("%+v leaves %s", rules, got)
		}
	}
}

func TestRulesAreCompiledOnce(t *testing.T) {
	rules := deploy.Redaction{Patterns: []string{"a+"}}
	red := redactorOf(t, rules)
	again := deploy.Redaction{Patterns: []string{"a+"}}
	before := &script{redaction: red}
	if got := compileRedaction(&deploy.SnapshotScript{Redaction: &again}, before, nil); got != red {
		t.Error("the same rules were compiled again")
	}
	if got := compileRedaction(&deploy.SnapshotScript{}, before, nil); got != nil {
		t.Error("no rules have a redactor")
	}
}

// A pattern that matched letters of what was put in place of an earlier one's match
// multiplied it by eight: twenty of them made more of one letter than a gateway has memory.
func TestPatternsDoNotMultiplyWhatTheyTakeOut(t *testing.T) {
	var rules deploy.Redaction
	for last := 'Z'; last > 'T'; last-- {
		rules.Patterns = append(rules.Patterns, "[A-"+string(last)+"]")
	}
	red := redactorOf(t, rules)
	f := func(in, want string) {
		t.Helper()
		if got := red.text(in); got != want {
			t.Errorf("%.100q became %d bytes: %.100q, want %.100q", in, len(got), got, want)
		}
	}
	f("Q", redacted)
	f("aQb", "a"+redacted+"b")
	f("AbCDe", redacted+"b"+redacted+"e") // what touches goes as one
	f(strings.Repeat("Qb", 1000), strings.Repeat(redacted+"b", 1000))
	f("REDACTED aQ", "REDACTED a"+redacted)

	red = redactorOf(t, deploy.Redaction{Paths: []string{"/users/*"}, QueryParameters: []string{"a"}, Patterns: []string{"ACT"}})
	if got, want := red.url("/users/7?a=1"), "/users/REDACTED?a=REDACTED"; got != want {
		t.Errorf("what was taken out was taken out again: %q, want %q", got, want)
	}
}

// A match in the whole text may begin in what another pattern takes out, and leave the end
// of a secret that is found whole beside that.
func TestPatternsFindWhatOthersLeave(t *testing.T) {
	f := func(in, want string, patterns ...string) {
		t.Helper()
		red := redactorOf(t, deploy.Redaction{Patterns: patterns})
		if got := red.text(in); got != want {
			t.Errorf("%q took %q to %q, want %q", patterns, in, got, want)
		}
	}
	f("id=12344111111111111111", redacted, `id=\d{4}`, `\d{16}`)
	f("id=12344111111111111111.", redacted+".", `never`, `id=\d{4}`, `\d{16}`)
	f("a=1b=23456 7", redacted+" 7", `a=\d`, `b=\d`, `\d{4}`)
	// What a pattern matches in the whole text only goes, too.
	f("id=1234 Bearer", redacted, `\d+`, `id=\d+ Bearer`)
	// A piece ends where a text does, once.
	f("xaab", redacted+"ab", `x`, `^a`)
	f("aab", redacted+"ab", `^a`)
	f("1x2", redacted, `x`, `^\d$`)

	red := redactorOf(t, deploy.Redaction{Patterns: []string{`id \d\d`, `\d\d \d\d`}})
	l := schema.Log{Message: []json.RawMessage{json.RawMessage(`"id"`), json.RawMessage(`12`), json.RawMessage(`34`), json.RawMessage(`56`)}}
	red.log(&l)
	if got, want := fmt.Sprintf("%s", l.Message), `["REDACTED" "REDACTED" "REDACTED" "REDACTED"]`; got != want {
		t.Errorf("the line became %s, want %s", got, want)
	}
}

// BenchmarkRedact is BenchmarkRecord with rules, and without.
func BenchmarkRedact(b *testing.B) {
	all := deploy.Redaction{Headers: []string{"x-customer"}, QueryParameters: []string{"email"}, Paths: []string{"/users/*"}, Patterns: []string{`SSN-\d+`}, BuiltIns: deploy.RedactionBuiltIns}
	named := deploy.Redaction{Headers: []string{"x-customer"}, QueryParameters: []string{"email"}}
	for name, rules := range map[string]*deploy.Redaction{"none": nil, "names": &named, "everything": &all} {
		b.Run(name, func(b *testing.B) {
			g, _ := sampledGateway(b, 0)
			g.deps.Emitter = instantBackend{}
			s := *g.latest
			s.Scripts = slices.Clone(s.Scripts)
			s.Scripts[0].Redaction = rules
			s.Revision++
			if err := g.accept(&s); err != nil {
				b.Fatal(err)
			}
			x := exchangeOf(g, testVersion, newRay(time.Now()))
			r, err := http.NewRequest(http.MethodGet, "http://shop.dev.localhost/", nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36")
			b.ReportAllocs()
			for b.Loop() {
				g.record(ask(r), "/users/7/orders?page=2&email=a", x, nil)
			}
		})
	}
}

// Found in a review: secrets of which a part was left.
func TestNoPartOfASecretIsLeft(t *testing.T) {
	red := redactorOf(t, deploy.Redaction{
		QueryParameters: []string{"visitor"}, Paths: []string{"/reset/*"}, Patterns: []string{"secret-[a-z0-9]+"},
		BuiltIns: []deploy.RedactionBuiltIn{deploy.RedactTokens, deploy.RedactEmails},
	})
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// One character in the middle is encoded.
	f(red.text("call with Bearer abcdefgh%2Fijklmnop"), redacted)
	f(red.text("secret-abc\u200bdef"), redacted)
	f(red.url("https://h/?secret-abc%31def=1"), "https://h/?REDACTED")
	f(red.url("https://h/?a=secret-abc%31def"), "https://h/?a=REDACTED")
	// A semicolon is a border to some, and a part of the value to others.
	f(red.url("https://h/p?visitor=abc;def&x=1"), "https://h/p?visitor=REDACTED&x=1")
	f(red.url("https://h/p?x=1;visitor=abc"), "https://h/p?x=1;visitor=REDACTED")
	f(redactQuery("/p?a=1;access_token=abc&b"), "/p?a=1;access_token=REDACTED&b")
	// Other spellings of a path, and what only looks like a host.
	f(red.url("https://h/reset/abc"), "https://h/reset/REDACTED")
	f(red.url("https://h/reset%2Fabc"), "https://h/REDACTED")
	f(red.url("https://h//reset/abc"), "https://h/REDACTED")
	f(red.url("https://h/a/../reset/abc?x"), "https://h/REDACTED?x")
	f(red.url("https://alice%40b.example@h/x"), "REDACTED/REDACTED")
	f(red.header("referer", "/reset/abc/http://a/b"), "/reset/REDACTED/http://a/b")

	// What was cut may have lost the end by which it would be known.
	inv := schema.Invocation{
		Exceptions: []schema.Exception{
			{Name: "Error", Message: "jwt eyJhbGciOi" + schema.ExceptionTruncated, Stack: strings.Repeat("x", schema.StackRunesMax)},
			{Name: "Error", Message: "whole", Stack: "at a"},
		},
		Logs: []schema.Log{{Message: []json.RawMessage{
			json.RawMessage(`"card 4111 1111"`), schema.AppendString(nil, "1111 11"+schema.LogTruncated),
		}}},
	}
	red.invocation(&inv)
	f(fmt.Sprint(inv.Exceptions), fmt.Sprint([]schema.Exception{
		{Name: redacted, Message: redacted + schema.ExceptionTruncated, Stack: redacted}, {Name: "Error", Message: "whole", Stack: "at a"},
	}))
	f(fmt.Sprintf("%s", inv.Logs[0].Message), `["REDACTED" "REDACTED<<<Logpush: messages truncated>>>"]`)
}
