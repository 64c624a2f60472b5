package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/api/apitest"
	"tidegate/test/platform"
)

// planted are secrets by their name, each text found nowhere else.
type planted map[string]string

// make returns a new secret, which is its own proof of where it came from.
func (s planted) make(name string) string {
	s[name] = "hunter2" + name + fmt.Sprint(time.Now().UnixNano())
	return s[name]
}

// in names the secrets that a text holds.
func (s planted) in(text string) (names []string) {
	for name, secret := range s {
		if strings.Contains(text, secret) {
			names = append(names, name)
		}
	}
	return names
}

// TestSecretsStayWhereTheyBelong puts a secret into every place of the API that takes or gives
// one, has the platform use them, and then looks everywhere: in every file of its data
// directory, in what it logs when it logs most, and in all that it answers to whoever may read
// and not edit. docs/security.md has the table of places that this test allows.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	dir := t.TempDir()
	logFile, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = logFile.Close() })
	p := start(t, platform.Options{DataDir: dir, Output: logFile, Args: []string{"--log-level", "debug", "--logpush-interval", "1s", "--gateway-domain", "localhost"}})
	secrets := planted{}
	reader := plantSecrets(t, p, secrets)

	answers := readAll(t, p, reader)
	if len(answers) < 60 {
		t.Errorf("%d operations answered a reader", len(answers))
	}
	for operation, text := range answers {
		for _, name := range secrets.in(text) {
			t.Errorf("%s tells a reader the secret %s", operation, name)
		}
	}
	for _, path := range []string{"/metrics", "/readyz", "/client/v4/accounts/" + p.AccountID + "/audit_logs?per_page=100", "/client/v4/system/health", "/client/v4/routing/snapshot"} {
		if names := secrets.in(get(t, p.Ready.API+path, p.Token)); len(names) > 0 {
			t.Errorf("%s tells the operator the secrets %v", path, names)
		}
	}

	searchFiles(t, dir, secrets)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	searchFiles(t, dir, secrets)
	log, err := os.ReadFile(logFile.Name())
	if err != nil || len(log) < 1000 {
		t.Fatalf("the log has %d bytes, error %v", len(log), err)
	}
	if names := secrets.in(string(log)); len(names) > 0 {
		t.Errorf("the log tells the secrets %v", names)
	}
}

// mayHold are the files that must hold a secret in clear text.
func mayHold(path, name string) bool {
	switch name {
	case "admin token":
		return path == "admin-token"
	case "binding", "secret put later": // the Workers runtime is given them
		return strings.HasPrefix(path, "workers"+string(filepath.Separator))
	}
	return false
}

// searchFiles looks at every byte below a folder.
func searchFiles(t *testing.T, dir string, secrets planted) {
	t.Helper()
	files, allowed := 0, 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreMissing(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return ignoreMissing(err)
		}
		files++
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		for _, name := range secrets.in(string(content)) {
			if !mayHold(relative, name) {
				t.Errorf("the file %s holds the secret %s", relative, name)
				continue
			}
			allowed++
			if info, err := d.Info(); err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("the file %s holds the secret %s and has the mode %v", relative, name, info.Mode())
			}
		}
		return nil
	})
	if err != nil || files < 10 || allowed < 2 {
		t.Errorf("looked at %d files, %d of them hold what they must, error %v", files, allowed, err)
	}
}

// ignoreMissing is for files that go while they are looked at.
func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// plantSecrets uses every place that takes or gives a secret, and returns a token that may
// read all and edit nothing.
func plantSecrets(t *testing.T, p *platform.Platform, secrets planted) (reader string) {
	t.Helper()
	do := func(method, path string, body, out any) {
		t.Helper()
		if err := p.API(t.Context(), method, path, body, out); err != nil {
			t.Fatal(err)
		}
	}
	secrets["admin token"] = p.Token
	var token struct{ Value string }
	do(http.MethodPost, "/accounts/{account}/tokens", map[string]any{"name": "reader", "scopes": []string{"scripts:read", "logs:read"}}, &token)
	secrets["token"], reader = token.Value, token.Value

	const shop = "/accounts/{account}/workers/scripts/shop"
	worker := platform.JavaScript("v1", `export default { fetch(request, env) { return new Response(String(env.KEY.length)) } }`)
	worker.Bindings = append(worker.Bindings, map[string]any{"name": "KEY", "type": "secret_text", "text": secrets.make("binding")})
	if _, err := p.DeployWorker(t.Context(), "shop", worker); err != nil {
		t.Fatal(err)
	}
	do(http.MethodPut, shop+"/secrets", map[string]any{"name": "LATER", "type": "secret_text", "text": secrets.make("secret put later")}, nil)

	var tried, failed atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if tried.Add(1) > 1 { // the first is the test of a new job
			failed.Add(1)
			http.Error(w, "refused, whoever says "+r.Header.Get("Authorization"), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(collector.Close)
	do(http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{"name": "failing", "dataset": "workers_trace_events", "enabled": true,
		"destination_conf": collector.URL + "/x?header_Authorization=" + secrets.make("destination")}, nil)
	do(http.MethodPut, "/accounts/{account}/logpush/alerts", map[string]any{"url": collector.URL + "/" + secrets.make("alerts' URL"), "secret": secrets.make("alerts")}, nil)

	do(http.MethodPut, shop+"/rollback-policy", map[string]any{"enabled": true, "max_failure_ratio": 1, "action": "rollback", "notify": []map[string]any{
		{"type": "webhook", "url": collector.URL + "/" + secrets.make("webhook's URL"), "secret": secrets.make("webhook")},
		{"type": "slack", "url": collector.URL + "/" + secrets.make("slack")},
	}}, nil)
	_ = p.API(t.Context(), http.MethodPost, shop+"/rollback-policy/notify-test", map[string]any{}, nil) // it fails, and that is told

	secretOf := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	var tail struct{ URL string }
	do(http.MethodPost, shop+"/tails", map[string]any{"filters": []any{}}, &tail)
	secrets["tail"] = secretOf(tail.URL)
	var instant struct {
		DestinationConf string `json:"destination_conf"`
	}
	do(http.MethodPost, "/accounts/{account}/logpush/edge/jobs", map[string]any{"fields": "EventTimestampMs"}, &instant)
	secrets["instant logs"] = secretOf(instant.DestinationConf)

	secrets["session"] = signIn(t, p)
	secrets["link"] = link(t, p)

	eventually(t, 30*time.Second, "the Worker has its secrets", func() (bool, error) {
		status, _, err := p.Visit(t.Context(), http.DefaultClient, "shop", nil)
		return status == http.StatusOK, err
	})
	eventually(t, 30*time.Second, "deliveries fail", func() (bool, error) {
		_, _, err := p.Visit(t.Context(), http.DefaultClient, "shop", nil)
		return failed.Load() > 5, err
	})
	return reader
}

func signIn(t *testing.T, p *platform.Platform) (cookie string) {
	t.Helper()
	res, err := http.Post(p.Ready.API+"/session", "application/json", strings.NewReader(`{"token": "`+p.Token+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if len(res.Cookies()) != 1 {
		t.Fatalf("signing in answered %s", res.Status)
	}
	return res.Cookies()[0].Value
}

func link(t *testing.T, p *platform.Platform) (code string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.Ready.API+"/session/links", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.Token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct{ Result struct{ URL string } }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	_, code, _ = strings.Cut(answer.Result.URL, "#code=")
	return code
}

// readAll asks every operation that reads, of each id that it may be about, and returns what
// was answered with 200.
func readAll(t *testing.T, p *platform.Platform, token string) map[string]string {
	t.Helper()
	contract, err := apitest.NewValidator(nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, path := range []string{"/logpush/jobs", "/workers/scripts/shop/versions", "/workers/scripts/shop/deployments", "/workers/workers"} {
		var list any
		if err := p.API(t.Context(), http.MethodGet, "/accounts/{account}"+path, nil, &list); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, idsIn(list)...)
	}
	if len(ids) < 5 {
		t.Fatalf("the ids are %v", ids)
	}
	answers := map[string]string{}
	for _, operation := range contract.Operations() {
		method, path, _ := strings.Cut(operation, " ")
		if method != http.MethodGet || strings.HasSuffix(path, "/live") {
			continue
		}
		path = strings.NewReplacer("{account}", p.AccountID, "{script}", "shop", "{dataset}", "workers_trace_events", "{environment}", "production", "{name}", "KEY").Replace(path)
		for _, id := range ids {
			one := strings.NewReplacer("{id}", id, "{worker}", "shop", "{zone}", id).Replace(path)
			if text := get(t, p.Ready.API+"/client/v4"+one, token); text != "" {
				answers[operation] += text
			}
			if one == path {
				break
			}
		}
	}
	return answers
}

// idsIn finds what is called id, as deep as it may be.
func idsIn(v any) (ids []string) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			ids = append(ids, idsIn(one)...)
		}
	case map[string]any:
		for key, one := range v {
			if key == "id" {
				ids = append(ids, fmt.Sprint(one))
			} else {
				ids = append(ids, idsIn(one)...)
			}
		}
	}
	return ids
}

// get returns the body of an answer with 200, else nothing.
func get(t *testing.T, url, token string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return ""
	}
	return string(body)
}
