package sdk

import (
	"testing"

	cloudflare "github.com/cloudflare/cloudflare-go/v7"
	"github.com/cloudflare/cloudflare-go/v7/workers"
)

// TestScriptsOptOutOfLogpush makes a Worker as Terraform's cloudflare_worker does,
// which sends logpush false unless it is told otherwise, and changes it by the
// script's settings and by the Worker.
func TestScriptsOptOutOfLogpush(t *testing.T) {
	s := open(t)
	s.script = "sdk-logpush"
	account := cloudflare.F(s.account)
	worker := workers.WorkerParam{
		Name: cloudflare.F(s.script), Logpush: cloudflare.F(false),
		Observability: cloudflare.F(workers.WorkerObservabilityParam{Enabled: cloudflare.F(false)}),
		Subdomain:     cloudflare.F(workers.WorkerSubdomainParam{Enabled: cloudflare.F(true), PreviewsEnabled: cloudflare.F(true)}),
		Tags:          cloudflare.F([]string{"sdk"}), TailConsumers: cloudflare.F([]workers.WorkerTailConsumerParam{}),
	}
	made, err := s.Workers.Beta.Workers.New(t.Context(), workers.BetaWorkerNewParams{AccountID: account, Worker: worker})
	if err != nil {
		t.Fatal(err)
	}
	shows := func(what string, want bool) {
		t.Helper()
		read, err := s.Workers.Beta.Workers.Get(t.Context(), made.ID, workers.BetaWorkerGetParams{AccountID: account})
		if err != nil {
			t.Fatal(err)
		}
		settings, err := s.Workers.Scripts.Settings.Get(t.Context(), s.script, workers.ScriptSettingGetParams{AccountID: account})
		if err != nil {
			t.Fatal(err)
		}
		if read.Logpush != want || settings.Logpush != want {
			t.Errorf("%s: the worker is %s, its settings are %s", what, read.JSON.RawJSON(), settings.JSON.RawJSON())
		}
	}
	shows("a new worker", false)
	if _, err := s.Workers.Scripts.Update(t.Context(), s.script, workers.ScriptUpdateParams{AccountID: account}, upload(t, "v1")); err != nil {
		t.Fatal(err)
	}
	shows("an upload", false)
	if _, err := s.Workers.Scripts.Settings.Edit(t.Context(), s.script, workers.ScriptSettingEditParams{AccountID: account,
		ScriptSetting: workers.ScriptSettingParam{Logpush: cloudflare.F(true)}}); err != nil {
		t.Fatal(err)
	}
	shows("its settings, edited", true)
	if _, err := s.Workers.Beta.Workers.Update(t.Context(), made.ID, workers.BetaWorkerUpdateParams{AccountID: account, Worker: worker}); err != nil {
		t.Fatal(err)
	}
	shows("the worker, replaced", false)
	if _, err := s.Workers.Beta.Workers.Edit(t.Context(), made.ID, workers.BetaWorkerEditParams{AccountID: account,
		Worker: workers.WorkerParam{Logpush: cloudflare.F(true)}}); err != nil {
		t.Fatal(err)
	}
	shows("the worker, edited", true)
}
