package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestLinksSignInToTheDashboard follows the link that "tidegate dashboard" makes, as a browser
// does. "tidegate up" tells a log where the dashboard is, and gives it no link.
func TestLinksSignInToTheDashboard(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // it is read by its name
	output := func() string {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	p := start(t, platform.Options{Output: log})
	eventually(t, 20*time.Second, "the dashboard's address is printed", func() (bool, error) {
		return strings.Contains(output(), "Dashboard: "+p.Ready.API+"\n"), nil
	})
	c := cli{dir: t.TempDir()}
	link := regexp.MustCompile(`(http://[^/\s]+)/login#code=(\S+)`).FindStringSubmatch(c.run(t, "dashboard", "--data-dir", p.DataDir))
	if link == nil {
		t.Fatal("tidegate dashboard prints no link")
	}
	if link[1] != p.Ready.API {
		t.Errorf("the link leads to %s, and the API is at %s", link[1], p.Ready.API)
	}
	browser := newBrowser(t)
	signIn := func() int { return browser.post(t, p.Ready.API+"/session", `{"code": "`+link[2]+`"}`) }
	if status := signIn(); status != http.StatusOK {
		t.Fatalf("the link answers %d", status)
	}
	var account struct{ Result []struct{ ID string } }
	browser.get(t, p.Ready.API+"/client/v4/accounts", &account)
	if len(account.Result) != 1 || account.Result[0].ID != p.AccountID {
		t.Errorf("the session opens %+v", account)
	}
	if status := signIn(); status != http.StatusUnauthorized {
		t.Errorf("the link answers %d the second time", status)
	}
	if text := output(); strings.Contains(text, "#code=") || strings.Contains(text, link[2]) {
		t.Error("a code is in the log")
	}
}

// browser keeps cookies and says that its requests come from the dashboard's pages.
type browser struct{ *http.Client }

func newBrowser(t *testing.T) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return browser{&http.Client{Jar: jar}}
}

func (b browser) do(t *testing.T, method, url, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	res, err := b.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (b browser) post(t *testing.T, url, body string) (status int) {
	t.Helper()
	res := b.do(t, http.MethodPost, url, body)
	_ = res.Body.Close()
	return res.StatusCode
}

func (b browser) get(t *testing.T, url string, into any) {
	t.Helper()
	res := b.do(t, http.MethodGet, url, "")
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, res.Status, err)
	}
}
