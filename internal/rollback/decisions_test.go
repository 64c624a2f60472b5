package rollback

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/api"
	"tidegate/internal/api/apitest"
	"tidegate/internal/deploy"
	"tidegate/internal/notify"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/schema"
	"tidegate/schema/control"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The records of testdata/decisions are what people get to see of a decision: the API's own
// answers about the script, and what its targets were sent. Everything is what ships, from
// the controller to the receiver, but for the clock and the rates, which are those of a world.
// A story is a function of stories_test.go.

// storedWorld is a world whose control plane is the real one.
type storedWorld struct {
	*world
	clk        *clock
	store      *store.Store
	controller *Controller
	api        http.Handler
	token      string
	target     *httptest.Server
	versions   map[string]string // their ids in the store, by those that a story uses
	// shape changes what was counted of a version in a second, by the id that a story uses: a
	// second without requests is as good as absent.
	shape func(version string, b *schema.RateBlock)
	// meanwhile happens between a judgement and the storing of what follows from it.
	meanwhile func()

	mu   sync.Mutex
	sent map[string]json.RawMessage // what the target got, by the id of the message
}

// record is a golden file.
type record struct {
	Story       string            `json:"story"`
	Policy      json.RawMessage   `json:"policy"`
	Decisions   []json.RawMessage `json:"decisions"` // oldest first
	Deployments json.RawMessage   `json:"deployments"`
	Ramp        json.RawMessage   `json:"ramp"`
	Notices     []notice          `json:"notices"` // oldest first
	// Evidence is what the tests say at the end, where nothing was decided.
	Evidence json.RawMessage `json:"evidence,omitempty"`
}

// notice is what the target was sent, and what the API says of it.
type notice struct {
	Message json.RawMessage `json:"message"`
	Sent    json.RawMessage `json:"sent"`
}

func TestGoldenDecisions(t *testing.T) {
	for name, s := range goldenStories {
		t.Run(name, func(t *testing.T) {
			w := newStoredWorld(t, s.policy)
			s.play(w)
			golden(t, filepath.Join("testdata", "decisions", name+".json"), w.record(s.story))
		})
	}
	files, err := filepath.Glob("testdata/decisions/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); goldenStories[name].play == nil {
			t.Errorf("%s is of no story", file)
		}
	}
}

// The manual shows one of the records.
func TestTheManualShowsADecision(t *testing.T) {
	file, err := os.ReadFile("testdata/decisions/failure-ratio.json")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/rollback.md")
	if err != nil {
		t.Fatal(err)
	}
	_, decision, _ := strings.Cut(string(file), "\"decisions\": [\n    ")
	decision, _, _ = strings.Cut(decision, "\n  ],\n")
	decision = strings.ReplaceAll(decision, "\n    ", "\n")
	if !strings.HasPrefix(decision, "{") || !strings.Contains(string(manual), "\n"+decision+"\n") {
		t.Errorf("docs/rollback.md does not show\n%s", decision)
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s differs (-want +got); run the test with -update when it should:\n%s", path, diff)
	}
}

// newStoredWorld has v1 at 100 % for ten minutes, and a policy for as long.
func newStoredWorld(t *testing.T, policy deploy.RollbackPolicy) *storedWorld {
	t.Helper()
	clk := newClock()
	w := &storedWorld{world: newWorld(t, clk.now, policy), clk: clk, versions: map[string]string{}, sent: map[string]json.RawMessage{}}
	w.target = httptest.NewServer(http.HandlerFunc(w.receive))
	t.Cleanup(w.target.Close)
	clk.advance(-10 * time.Minute)
	w.store = storetest.New(t, store.Options{Now: clk.now})
	if _, err := w.store.Bootstrap(t.Context(), control.Account{}, func(token string) error { w.token = token; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{v1, v2, v3} {
		v, err := w.store.CreateVersion(w.ann(), control.FirstAccountID, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://10.0.0.5:9000"}})
		if err != nil {
			t.Fatal(err)
		}
		w.versions[version] = v.ID
	}
	w.save(policy)
	w.deploy(split{v1: 100})
	clk.advance(10 * time.Minute)

	edges := w.fakes("a")
	var err error
	if w.controller, err = New(Config{
		Holder: "a", Rates: edges, Deployments: watchedStore{w}, Leases: edges, Log: slog.New(slog.DiscardHandler), Now: clk.now,
	}); err != nil {
		t.Fatal(err)
	}
	w.controller.patience = time.Minute
	edges.rates = w.rates
	server, err := api.New(api.Config{Now: clk.now}, api.Deps{
		Accounts: w.store, Tokens: w.store, Scripts: w.store, Policies: w.store, Notifications: w.store,
		Trials: NewHistory(HistoryConfig{Rates: edges, Scripts: w.store, Now: clk.now}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.StopWaiting)
	w.api = server.Handler()
	return w
}

// ann is who does what people do in a story.
func (w *storedWorld) ann() context.Context {
	return control.WithActor(w.t.Context(), control.Actor{Email: "ann@example.com", Source: "wrangler"})
}

// save is a person's policy. Its targets are told of everything.
func (w *storedWorld) save(policy deploy.RollbackPolicy) {
	w.t.Helper()
	policy.Notify = []deploy.NotifyTarget{{Type: deploy.NotifySlack, URL: w.target.URL, On: []deploy.NotifyOn{
		deploy.OnRollback, deploy.OnPause, deploy.OnFail, deploy.OnError, deploy.OnPromote, deploy.OnDone,
	}}}
	policy.Complete()
	err := policy.Validate()
	if err == nil {
		_, err = w.store.SavePolicy(w.ann(), control.FirstAccountID, "shop", policy, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// deploy is a person's deployment.
func (w *storedWorld) deploy(s split) {
	w.t.Helper()
	d := person(s)
	for i := range d.Versions {
		d.Versions[i].VersionID = w.versions[d.Versions[i].VersionID]
	}
	d.AuthorEmail = ""
	if _, err := w.store.Deploy(w.ann(), control.FirstAccountID, "shop", d, ""); err != nil {
		w.t.Fatal(err)
	}
}

// upload is a person's upload.
func (w *storedWorld) upload(version string, u deploy.Upload) {
	w.t.Helper()
	v, err := w.store.Upload(w.ann(), control.FirstAccountID, "shop", u)
	if err != nil {
		w.t.Fatal(err)
	}
	w.versions[version] = v.ID
}

// deleteBefore deletes the deployment before the present one, which takes a policy that is
// disabled for so long.
func (w *storedWorld) deleteBefore() {
	w.t.Helper()
	disabled := w.policy
	disabled.Enabled = false
	w.save(disabled)
	stored, err := w.store.Deployments(w.t.Context(), control.FirstAccountID, "shop")
	if err == nil {
		err = w.store.DeleteDeployment(w.ann(), control.FirstAccountID, "shop", stored[1].ID)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.save(w.policy)
}

// control is a person's action on the ramp.
func (w *storedWorld) control(action string) {
	w.t.Helper()
	if _, err := w.store.ControlRamp(w.ann(), control.FirstAccountID, "shop", action, ""); err != nil {
		w.t.Fatal(err)
	}
}

// rates are those of the world, of the versions of the store.
func (w *storedWorld) rates(_ context.Context, _, _ string, since, until time.Time) ([]schema.RateBlock, error) {
	blocks, err := w.blocks(since, until)
	var seen []schema.RateBlock
	for _, b := range blocks {
		if w.shape != nil {
			w.shape(b.VersionID, &b)
		}
		if b.VersionID = w.versions[b.VersionID]; b.Requests > 0 {
			seen = append(seen, b)
		}
	}
	return seen, err
}

// watchedStore is the store as the controller sees it.
type watchedStore struct{ w *storedWorld }

// Watched lets the world's traffic follow what is deployed.
func (s watchedStore) Watched(ctx context.Context) ([]deploy.Watched, error) {
	watched, err := s.w.store.Watched(ctx)
	if len(watched) == 1 {
		s.w.follow(watched[0].Deployments)
	}
	return watched, err
}

// follow lets the world's traffic follow deployments, by the versions that stories use.
func (w *storedWorld) follow(stored []deploy.Deployment) {
	known := map[string]string{}
	for version, id := range w.versions {
		known[id] = version
	}
	w.deployments = slices.Clone(stored)
	for i, d := range stored {
		w.deployments[i].Versions = slices.Clone(d.Versions)
		for j, s := range d.Versions {
			w.deployments[i].Versions[j].VersionID = known[s.VersionID]
		}
	}
}

func (s watchedStore) ApplyDecision(ctx context.Context, account, script string, judged deploy.Judged, d *deploy.Deployment, ramp *deploy.Ramp, decision *deploy.RollbackDecision) error {
	if s.w.meanwhile != nil && decision != nil {
		s.w.meanwhile()
		s.w.meanwhile = nil
	}
	return s.w.store.ApplyDecision(ctx, account, script, judged, d, ramp, decision)
}

// steps goes on for a while, every second: as seldom as a story bears, since each step asks the
// database. Steps fail while the rates are down, and only then.
func (w *storedWorld) steps(d time.Duration) {
	w.t.Helper()
	for end := w.clk.Add(d); w.clk.Before(end); w.clk.advance(time.Second) {
		if err := w.controller.Step(w.t.Context()); (err != nil) != w.ratesDown {
			w.t.Fatalf("step at +%v: %v", w.clk.Sub(epoch), err)
		}
	}
}

// receive is what a target of the policy does with a message.
func (w *storedWorld) receive(answer http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		answer.WriteHeader(http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[r.Header.Get(notify.IDHeader)] = body
}

// notices sends what is in the outbox, and waits until it was sent.
func (w *storedWorld) notices() []notice {
	w.t.Helper()
	local := egress.Policy{AllowHTTP: true, AllowLoopback: true, NoProgress: time.Minute}
	s, err := notify.New(notify.Config{
		Outbox: w.store, Client: local.Client(), CheckScheme: local.CheckScheme, Explain: func(err error) (string, bool) { return err.Error(), false },
		Links: notify.Links{Console: "https://tidegate.example.com"}, Log: slog.New(slog.DiscardHandler), Now: w.now,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	waiting := func(n deploy.Notification) bool { return n.State == deploy.NotificationWaiting }
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		list, err := w.store.Notifications(w.t.Context(), control.FirstAccountID, "shop")
		if err != nil || time.Now().After(deadline) {
			w.t.Fatalf("not sent: %+v, %v", list, err)
		}
		if !slices.ContainsFunc(list, waiting) {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		w.t.Fatal(err)
	}
	var messages []json.RawMessage
	if err := json.Unmarshal(w.get("rollback-notifications"), &messages); err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(messages)
	list := []notice{}
	for _, m := range messages {
		list = append(list, notice{m, w.sent[idOf(w.t, m)]})
	}
	return list
}

// record tells what has become of the script.
func (w *storedWorld) record(story string) []byte {
	w.t.Helper()
	r := record{Story: story, Policy: w.get("rollback-policy"), Decisions: []json.RawMessage{}, Deployments: w.get("deployments"), Ramp: w.get("rollback-policy/ramp"), Notices: w.notices()}
	var decisions []json.RawMessage
	if err := json.Unmarshal(w.get("rollback-decisions"), &decisions); err != nil {
		w.t.Fatal(err)
	}
	for _, d := range slices.Backward(decisions) {
		r.Decisions = append(r.Decisions, w.get("rollback-decisions/"+idOf(w.t, d)))
	}
	if len(decisions) == 0 {
		r.Evidence = w.get("rollback-policy/evidence")
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		w.t.Fatal(err)
	}
	return []byte(w.named(text.String()))
}

func idOf(t *testing.T, text json.RawMessage) string {
	t.Helper()
	var named struct{ ID string }
	if err := json.Unmarshal(text, &named); err != nil || named.ID == "" {
		t.Fatalf("%s has no id: %v", text, err)
	}
	return named.ID
}

// get is an answer of the API about the script; null where there is nothing.
func (w *storedWorld) get(what string) json.RawMessage {
	w.t.Helper()
	validator, err := apitest.NewValidator(handled{w.api})
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "/client/v4/accounts/"+control.FirstAccountID+"/workers/scripts/shop/"+what, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	res, err := validator.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Result json.RawMessage
		Errors []struct{ Message string }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNotFound {
		w.t.Fatalf("%s: %s, %+v", what, res.Status, answer.Errors)
	}
	for _, violation := range validator.Violations() {
		w.t.Error(violation)
	}
	return answer.Result
}

// handled is a transport to a handler of this process.
type handled struct{ http.Handler }

func (h handled) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

var (
	uuidPattern  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
	floatPattern = regexp.MustCompile(`": -?\d+\.\d+(e[+-]?\d+)?\b`)
	pointPattern = regexp.MustCompile(`\{\s*("at": "[^"]*",)\s*("log_e": \S+)\s*\}`)
)

// named is a record that is the same whenever a story is played: ids are those of the story or
// numbered in the order in which they come, and a number has as many digits as every processor agrees
// upon. A point of a series takes a line.
func (w *storedWorld) named(text string) string {
	var names []string
	for version, id := range w.versions {
		names = append(names, id, version, short(id), short(version))
	}
	names = append(names, w.target.URL, "https://chat.example.com", `\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
	text = strings.NewReplacer(names...).Replace(text)
	numbered := map[string]string{v1: v1, v2: v2, v3: v3}
	text = uuidPattern.ReplaceAllStringFunc(text, func(id string) string {
		if numbered[id] == "" {
			numbered[id] = fmt.Sprintf("00000000-0000-4000-8000-%012d", len(numbered)-2)
		}
		return numbered[id]
	})
	text = floatPattern.ReplaceAllStringFunc(text, func(member string) string {
		f, err := strconv.ParseFloat(member[len(`": `):], 64)
		if err != nil {
			w.t.Fatal(err)
		}
		return `": ` + strconv.FormatFloat(f, 'g', 8, 64)
	})
	return pointPattern.ReplaceAllString(text, "{$1 $2}")
}
