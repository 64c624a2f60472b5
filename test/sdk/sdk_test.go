// Package sdk drives a running Tidegate with Cloudflare's own Go SDK. The
// end-to-end tests start the platform and run these tests against it.
package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"os"
	"strings"
	"testing"

	cloudflare "github.com/cloudflare/cloudflare-go/v7"
	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/workers"
)

// session is a client and what every call names.
type session struct {
	*cloudflare.Client
	baseURL, token string
	account        string
	script         string
}

func open(t *testing.T) session {
	t.Helper()
	get := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			t.Fatalf("%s is not set: test/e2e runs these tests", name)
		}
		return value
	}
	s := session{baseURL: get("TIDEGATE_TEST_API"), token: get("TIDEGATE_TEST_TOKEN"), account: get("TIDEGATE_TEST_ACCOUNT"), script: "sdk"}
	s.Client = cloudflare.NewClient(option.WithBaseURL(s.baseURL), option.WithAPIToken(s.token))
	return s
}

// upload is the multipart form of one module that answers name. The SDK cannot
// write it: it spreads metadata over parts of its own, which upstream refuses as
// well (cloudflare-typescript issue 2645).
func upload(t *testing.T, name string) option.RequestOption {
	t.Helper()
	metadata, err := json.Marshal(map[string]any{
		"main_module": "index.js", "compatibility_date": "2026-10-06",
		"bindings":      []map[string]any{{"name": "NAME", "type": "plain_text", "text": name}},
		"keep_bindings": []string{"secret_text"},
		"annotations":   map[string]string{"workers/tag": name, "workers/message": "from the SDK"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("metadata", string(metadata)); err != nil {
		t.Fatal(err)
	}
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="index.js"; filename="index.js"`},
		"Content-Type":        {"application/javascript+module"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(part, `export default { fetch(request, env) { return new Response(env.NAME); } };`); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	return option.WithRequestBody(form.FormDataContentType(), body.Bytes())
}

// TestVersionsAndDeployments uploads, lists with paging, views, splits and lists again.
func TestVersionsAndDeployments(t *testing.T) {
	s := open(t)
	account := cloudflare.F(s.account)
	if _, err := s.Workers.Scripts.Update(t.Context(), s.script, workers.ScriptUpdateParams{AccountID: account}, upload(t, "v1")); err != nil {
		t.Fatal(err)
	}
	two, err := s.Workers.Scripts.Versions.New(t.Context(), s.script, workers.ScriptVersionNewParams{AccountID: account}, upload(t, "v2"))
	if err != nil {
		t.Fatal(err)
	}
	three, err := s.Workers.Scripts.Versions.New(t.Context(), s.script, workers.ScriptVersionNewParams{AccountID: account}, upload(t, "v3"))
	if err != nil {
		t.Fatal(err)
	}
	if three.Number != two.Number+1 {
		t.Errorf("the numbers are %v and %v", two.Number, three.Number)
	}
	var ids []string
	pages := s.Workers.Scripts.Versions.ListAutoPaging(t.Context(), s.script, workers.ScriptVersionListParams{AccountID: account, PerPage: cloudflare.F[int64](2)})
	for pages.Next() {
		ids = append(ids, pages.Current().ID)
	}
	if err := pages.Err(); err != nil {
		t.Fatal(err)
	}
	if len(ids) < 3 || ids[0] != three.ID || ids[1] != two.ID {
		t.Fatalf("the versions are %v; the newest is %s", ids, three.ID)
	}
	one := ids[2]
	view, err := s.Workers.Scripts.Versions.Get(t.Context(), s.script, two.ID, workers.ScriptVersionGetParams{AccountID: account})
	if err != nil {
		t.Fatal(err)
	}
	if len(view.Resources.Bindings) != 1 || view.Resources.Bindings[0].Text != "v2" || view.Resources.ScriptRuntime.CompatibilityDate != "2026-10-06" {
		t.Errorf("the version is %s", view.JSON.RawJSON())
	}

	made, err := s.Workers.Scripts.Deployments.New(t.Context(), s.script, workers.ScriptDeploymentNewParams{AccountID: account, Deployment: workers.DeploymentParam{
		Strategy: cloudflare.F(workers.DeploymentStrategyPercentage),
		Versions: cloudflare.F([]workers.DeploymentVersionParam{
			{VersionID: cloudflare.F(one), Percentage: cloudflare.F(99.5)},
			{VersionID: cloudflare.F(two.ID), Percentage: cloudflare.F(0.5)},
		}),
		Annotations: cloudflare.F(workers.DeploymentAnnotationsParam{WorkersMessage: cloudflare.F("half a percent")}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Workers.Scripts.Deployments.List(t.Context(), s.script, workers.ScriptDeploymentListParams{AccountID: account})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Deployments) != 2 || list.Deployments[0].ID != made.ID || list.Deployments[0].Annotations.WorkersMessage != "half a percent" {
		t.Errorf("the deployments are %s", list.JSON.RawJSON())
	}
	read, err := s.Workers.Scripts.Deployments.Get(t.Context(), s.script, made.ID, workers.ScriptDeploymentGetParams{AccountID: account})
	if err != nil {
		t.Fatal(err)
	}
	if len(read.Versions) != 2 || read.Versions[0].Percentage+read.Versions[1].Percentage != 100 {
		t.Errorf("the deployment is %s", read.JSON.RawJSON())
	}
}

// TestRefusals expects typed errors and no retries that would repeat a change.
func TestRefusals(t *testing.T) {
	s := open(t)
	account := cloudflare.F(s.account)
	_, err := s.Workers.Scripts.Versions.Get(t.Context(), "no-such-script", "11111111-1111-4111-8111-111111111111", workers.ScriptVersionGetParams{AccountID: account})
	wantCode(t, err, 404, 10007)
	_, err = s.Workers.Scripts.Deployments.Get(t.Context(), "no-such-script", "11111111-1111-4111-8111-111111111111", workers.ScriptDeploymentGetParams{AccountID: account})
	wantCode(t, err, 404, 10007)
}

// TestSecrets sets, lists, changes and deletes; no answer has a text.
func TestSecrets(t *testing.T) {
	s := open(t)
	s.script = "sdk-secrets"
	account := cloudflare.F(s.account)
	if _, err := s.Workers.Scripts.Update(t.Context(), s.script, workers.ScriptUpdateParams{AccountID: account}, upload(t, "v1")); err != nil {
		t.Fatal(err)
	}
	set, err := s.Workers.Scripts.Secrets.Update(t.Context(), s.script, workers.ScriptSecretUpdateParams{AccountID: account,
		Body: workers.ScriptSecretUpdateParamsBodyWorkersBindingKindSecretText{
			Name: cloudflare.F("KEY"), Text: cloudflare.F("hush"),
			Type: cloudflare.F(workers.ScriptSecretUpdateParamsBodyWorkersBindingKindSecretTextTypeSecretText),
		}})
	if err != nil {
		t.Fatal(err)
	}
	if set.Name != "KEY" || strings.Contains(set.JSON.RawJSON(), "hush") {
		t.Errorf("the answer is %s", set.JSON.RawJSON())
	}
	secrets, err := s.Workers.Scripts.Secrets.List(t.Context(), s.script, workers.ScriptSecretListParams{AccountID: account})
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets.Result) != 1 || secrets.Result[0].Name != "KEY" {
		t.Errorf("the secrets are %s", secrets.JSON.RawJSON())
	}
	if _, err := s.Workers.Scripts.Secrets.Delete(t.Context(), s.script, "KEY", workers.ScriptSecretDeleteParams{AccountID: account}); err != nil {
		t.Fatal(err)
	}
	secrets, err = s.Workers.Scripts.Secrets.List(t.Context(), s.script, workers.ScriptSecretListParams{AccountID: account})
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets.Result) != 0 {
		t.Errorf("after the deletion the secrets are %s", secrets.JSON.RawJSON())
	}
}

// TestTails makes a tail, finds it and takes it away.
func TestTails(t *testing.T) {
	s := open(t)
	s.script = "sdk-tails"
	account := cloudflare.F(s.account)
	if _, err := s.Workers.Scripts.Update(t.Context(), s.script, workers.ScriptUpdateParams{AccountID: account}, upload(t, "v1")); err != nil {
		t.Fatal(err)
	}
	made, err := s.Workers.Scripts.Tail.New(t.Context(), s.script, workers.ScriptTailNewParams{AccountID: account, Body: map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	if made.ID == "" || made.URL == "" || made.ExpiresAt == "" {
		t.Errorf("the tail is %s", made.JSON.RawJSON())
	}
	if _, err := s.Workers.Scripts.Tail.Delete(t.Context(), s.script, made.ID, workers.ScriptTailDeleteParams{AccountID: account}); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, status int, code int64) {
	t.Helper()
	failure, ok := errors.AsType[*cloudflare.Error](err)
	if !ok {
		t.Fatalf("the error is %v, not one of the API", err)
	}
	if failure.StatusCode != status || len(failure.Errors) == 0 || failure.Errors[0].Code != code {
		t.Errorf("the answer is %d, %+v; want %d, code %d", failure.StatusCode, failure.Errors, status, code)
	}
}
