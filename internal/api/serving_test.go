package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

func TestServingTellsOfEveryDeployedScript(t *testing.T) {
	p := newPlatform(t)
	p.call(t, http.MethodGet, "/workers/serving", "").ok(t, `"result":[]`)
	p.upload(t, "idle", "v1")
	v := p.upload(t, "shop", "v1")
	p.call(t, http.MethodPost, "/workers/scripts/shop/deployments", `{"strategy": "percentage", "versions": [{"version_id": "`+v.ID+`", "percentage": 100}]}`).ok(t)
	current, err := p.Deployments(t.Context(), account, "shop")
	if err != nil {
		t.Fatal(err)
	}
	ramp := deploy.Ramp{VersionID: v.ID, DeploymentID: current[0].ID, State: deploy.RampRunning, StepStartedAt: time.Now()}
	decision := deploy.RollbackDecision{
		ID: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", At: time.Now(), Verdict: deploy.VerdictFail, Action: deploy.ActionNotify,
		FromDeployment: current[0].ID, VersionID: v.ID, Sentence: "told of v1",
	}
	if err := p.store.ApplyDecision(t.Context(), account, "shop", deploy.Judged{DeploymentID: current[0].ID}, nil, &ramp, &decision); err != nil {
		t.Fatal(err)
	}
	a := p.call(t, http.MethodGet, "/workers/serving", "")
	a.ok(t, `"script":"shop"`, `"id":"`+current[0].ID+`"`, `"versions":[{"id":"`+v.ID+`","number":1,"tag":"v1"}]`, `"state":"running"`, `"sentence":"told of v1"`)
	if strings.Contains(a.text, "idle") {
		t.Errorf("a script that was never deployed serves: %s", a.text)
	}
}

func TestADeploymentReplacesWhatItWasMeantFor(t *testing.T) {
	p := newPlatform(t)
	v := p.upload(t, "shop", "v1")
	put := func(query string) answer {
		return p.call(t, http.MethodPost, "/workers/scripts/shop/deployments"+query, `{"strategy": "percentage", "versions": [{"version_id": "`+v.ID+`", "percentage": 100}]}`)
	}
	const other = "11111111-1111-4111-8111-111111111111"
	put("?if_serving="+other).want(t, http.StatusConflict, 10001, other, "none does")
	put("?if_serving=none").ok(t)
	put("?if_serving=none").want(t, http.StatusConflict, 10001, "is deployed by now")
	list, err := p.Deployments(t.Context(), account, "shop")
	if err != nil || len(list) != 1 {
		t.Fatalf("%d deployments, error %v", len(list), err)
	}
	put("?if_serving=" + list[0].ID).ok(t)
	put("?if_serving="+list[0].ID+"&force=true").want(t, http.StatusConflict, 10001, list[0].ID)
	put("?if_serving=latest").want(t, http.StatusBadRequest, 10001, "if_serving", "latest")
}
