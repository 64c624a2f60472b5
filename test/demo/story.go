package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

const (
	script = "shop"  // a Worker
	stock  = "stock" // an HTTP service, which shop asks through a service binding
)

type step struct {
	title string
	play  func(context.Context) error
}

// story holds what one step leaves for the next. One goroutine plays it.
type story struct {
	out      io.Writer
	dir      string
	platform *platform.Platform
	client   http.Client
	stock    *origin
	receiver *receiver
	folder   string // where the second job writes

	v1, v2, v3   string // version ids
	beforeJobs   int64  // events from before there was a job
	servedByTwo  int64  // requests that v2 answered
	answeredSeen int64  // requests that shop answered through the gateway so far
}

func (s *story) say(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

func (s *story) close() {
	if s.stock != nil {
		s.stock.close()
	}
	if s.receiver != nil {
		s.receiver.close()
	}
}

func (s *story) steps() []step {
	return []step{
		{"Deploy stock, an HTTP service, and shop, a Worker that asks it: version v1 at 100 %", s.firstVersion},
		{"Create two Logpush jobs: the published example to an HTTP receiver, and one to a folder", s.jobs},
		{"Upload v2, which fails one request in ten, and deploy 90/10", s.split},
		{"The receiver's lines, Kafka and ClickHouse agree to the event", s.agree},
		{"A rollback policy watches: v2 goes back out of traffic by itself", s.rollback},
		{"Upload v3, good, and deploy it with a ramp: it reaches 100 % by itself", s.ramp},
		{"Counts still agree, and the start page answers", s.finish},
	}
}

func (s *story) firstVersion(ctx context.Context) (err error) {
	s.stock = startOrigin()
	id, err := s.platform.UploadOrigin(ctx, stock, s.stock.url(), "v1", "a service in any language")
	if err != nil {
		return err
	}
	if _, err = s.platform.Deploy(ctx, stock, deploy.Split{VersionID: id, Percentage: deploy.Full}); err != nil {
		return err
	}
	err = s.until(ctx, "the gateway serves stock", func() (bool, error) {
		status, _, err := s.platform.Visit(ctx, &s.client, stock, nil)
		return status == http.StatusOK, err
	})
	if err != nil {
		return err
	}
	if s.v1, err = s.platform.DeployWorker(ctx, script, shopWorker("v1", "first good version", 0)); err != nil {
		return err
	}
	// The gateway has the deployment within a second; until then it answers 404
	// for a script it does not know, and emits no event.
	err = s.until(ctx, "the gateway serves v1", func() (bool, error) {
		status, body, err := s.platform.Visit(ctx, &s.client, script, nil)
		if err != nil || status == http.StatusNotFound {
			return false, err
		}
		s.answeredSeen++
		return body == "v1", nil
	})
	if err != nil {
		return err
	}
	s.say("   v1 is %s and answers at %s", s.v1, s.platform.Address(script))
	return nil
}

func (s *story) jobs(ctx context.Context) error {
	// A job starts at "now": wait until what came before is counted, so that it
	// can be told apart below.
	if err := s.untilCounted(ctx, s.events()); err != nil {
		return err
	}
	s.beforeJobs = s.answeredSeen
	s.receiver = startReceiver()
	example := fmt.Sprintf(`{
  "name": "workers-logpush",
  "output_options": {
    "field_names": ["Event", "EventTimestampMs", "Outcome", "Logs", "ScriptName", "ScriptVersion"]
  },
  "destination_conf": %q,
  "dataset": "workers_trace_events",
  "filter": "{\"where\":{\"key\":\"ScriptName\",\"operator\":\"eq\",\"value\":\"shop\"}}",
  "enabled": true
}`, s.receiver.url()+"/logs?header_X-Collector=demo")
	var first, second struct{ ID int64 }
	if err := s.platform.API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", example, &first); err != nil {
		return err
	}
	s.folder = filepath.Join(s.platform.DataDir, "logpush", "bucket")
	folderJob := map[string]any{
		"name": "to-a-folder", "dataset": "workers_trace_events", "enabled": true,
		"destination_conf": "file://" + s.folder + "/{DATE}",
		"filter":           `{"where":{"and":[{"key":"Outcome","operator":"eq","value":"ok"},{"key":"ScriptName","operator":"eq","value":"shop"}]}}`,
		"output_options":   map[string]any{"output_type": "csv", "field_names": []string{"EventTimestampMs", "ScriptName", "Outcome", "WallTimeMs"}},
	}
	if err := s.platform.API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", folderJob, &second); err != nil {
		return err
	}
	s.say("   job %d sends NDJSON to %s; job %d sends CSV to %s", first.ID, s.receiver.url(), second.ID, s.folder)
	return nil
}

func (s *story) split(ctx context.Context) (err error) {
	if s.v2, err = s.platform.UploadWorker(ctx, script, shopWorker("v2", "fails one request in ten", 10)); err != nil {
		return err
	}
	if err := s.deployAndWait(ctx, deploy.Split{VersionID: s.v1, Percentage: 90_000}, deploy.Split{VersionID: s.v2, Percentage: 10_000}); err != nil {
		return err
	}
	const requests = 2000
	t := startTraffic(ctx, s.platform, script, 8, requests)
	if err := t.wait(); err != nil {
		return err
	}
	s.addTraffic(t)
	served := t.served("v2")
	s.say("   %d requests: v1 answered %d, v2 %d (%.1f %%), of which %d with 500", requests, t.served("v1"), served, 100*float64(served)/requests, t.failed("v2"))
	// Five standard deviations of a binomial count: a good split fails here once in a million runs.
	if sigma := math.Sqrt(requests * 0.1 * 0.9); math.Abs(float64(served)-requests*0.1) > 5*sigma {
		return fmt.Errorf("v2 answered %d of %d requests: too far from 10 %%", served, requests)
	}
	if t.failed("v1") != 0 || t.failed("v2") == 0 {
		return fmt.Errorf("v1 failed %d times and v2 %d times: only v2 should fail", t.failed("v1"), t.failed("v2"))
	}
	return s.overrideAndAffinity(ctx)
}

func (s *story) overrideAndAffinity(ctx context.Context) error {
	override := http.Header{"Cloudflare-Workers-Version-Overrides": {fmt.Sprintf("%s=%q", script, s.v2)}}
	const tries = 20
	for range tries {
		version, err := s.visit(ctx, override)
		if err != nil {
			return err
		}
		if version != "v2" {
			return fmt.Errorf("an override for v2 reached %s", version)
		}
	}
	const keys, repeats = 40, 5
	onTwo := 0
	for key := range keys {
		header := http.Header{"Cloudflare-Workers-Version-Key": {fmt.Sprintf("user-%d", key)}}
		first, err := s.visit(ctx, header)
		if err != nil {
			return err
		}
		for range repeats - 1 {
			again, err := s.visit(ctx, header)
			if err != nil {
				return err
			}
			if again != first {
				return fmt.Errorf("key user-%d reached %s and then %s", key, first, again)
			}
		}
		if first == "v2" {
			onTwo++
		}
	}
	s.say("   the override header reached v2 %d times of %d; %d affinity keys stuck, %d of them to v2", tries, tries, keys, onTwo)
	return nil
}

func (s *story) agree(ctx context.Context) error {
	if err := s.untilCounted(ctx, s.events()); err != nil {
		return err
	}
	want := s.answeredSeen - s.beforeJobs
	err := s.until(ctx, fmt.Sprintf("the receiver holds %d events", want), func() (bool, error) {
		return s.receiver.events() >= want, s.receiver.err()
	})
	if err != nil {
		return fmt.Errorf("%w (it holds %d)", err, s.receiver.events())
	}
	counts, err := s.platform.Counts(ctx)
	if err != nil {
		return err
	}
	received := s.receiver.byVersion()
	s.say("   shop answered %d, stock %d; %s", s.answeredSeen, s.stock.hits.Load(), counts)
	s.say("   receiver: %d lines since the job began, v1 %d, v2 %d (ScriptVersion tells them apart)", s.receiver.events(), received[s.v1], received[s.v2])
	inClickHouse, err := s.platform.Count(ctx, "SELECT sum(requests) FROM version_rates_1h WHERE version_id = '"+s.v2+"'")
	if err != nil {
		return err
	}
	switch {
	case counts.Kafka != s.events() || !counts.Agree():
		return fmt.Errorf("counts differ: shop and stock answered %d; %s", s.events(), counts)
	case s.receiver.events() != want || received[s.v2] != s.servedByTwo || inClickHouse != s.servedByTwo:
		return fmt.Errorf("v2 answered %d requests, the receiver has %d of them (%d lines in all, %d expected), ClickHouse %d",
			s.servedByTwo, received[s.v2], s.receiver.events(), want, inClickHouse)
	}
	return s.untilFolder(ctx, want)
}

// untilFolder waits until the second job's files hold every event: v2's answers
// of 500 have the outcome ok as well, so the filter keeps all.
func (s *story) untilFolder(ctx context.Context, want int64) error {
	var lines int64
	var files int
	err := s.until(ctx, fmt.Sprintf("the folder holds %d lines", want), func() (bool, error) {
		var err error
		lines, files, err = countLines(s.folder)
		return lines >= want, err
	})
	if err != nil {
		return fmt.Errorf("the folder holds %d lines, not %d: %w", lines, want, err)
	}
	if lines != want {
		return fmt.Errorf("the folder holds %d lines, not %d", lines, want)
	}
	s.say("   folder: %d CSV lines in %d gzip files, such as %s", lines, files, firstFile(s.folder))
	return nil
}

func (s *story) rollback(ctx context.Context) error {
	policy := map[string]any{"enabled": true, "max_failure_rate": 0.02, "min_requests": 100, "look_back_seconds": 60, "action": "rollback"}
	t := startTraffic(ctx, s.platform, script, 4, 0)
	defer t.stop()
	began := time.Now()
	if err := s.platform.API(ctx, http.MethodPut, "/accounts/{account}/workers/scripts/"+script+"/rollback-policy", policy, nil); err != nil {
		return err
	}
	err := s.until(ctx, "the policy takes v2 out of traffic", func() (bool, error) {
		deployments, err := s.platform.Deployments(ctx, script)
		if err != nil {
			return false, err
		}
		now := deployments[0]
		return len(now.Versions) == 1 && now.Versions[0].VersionID == s.v1, nil
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	// Traffic is back when v1 alone answers: wait for a stretch of requests
	// without v2, then stop.
	if err := s.until(ctx, "v1 answers alone", func() (bool, error) { return t.streak("v1") >= 200, t.firstError() }); err != nil {
		return err
	}
	t.stop()
	if err := t.wait(); err != nil {
		return err
	}
	s.addTraffic(t)
	var decisions []deploy.RollbackDecision
	if err := s.platform.API(ctx, http.MethodGet, "/accounts/{account}/workers/scripts/"+script+"/rollback-decisions", nil, &decisions); err != nil {
		return err
	}
	if len(decisions) == 0 || decisions[0].Verdict != deploy.VerdictFail {
		return fmt.Errorf("no decision with the verdict fail is stored: %+v", decisions)
	}
	s.say("   traffic is back at v1 %.1f s after the policy was set: %q", took.Seconds(), decisions[0].Sentence)
	s.say("   %d requests meanwhile, all answered: v1 %d, v2 %d (%d with 500)", t.total(), t.served("v1"), t.served("v2"), t.failed("v2"))
	return nil
}

func (s *story) ramp(ctx context.Context) (err error) {
	if s.v3, err = s.platform.UploadWorker(ctx, script, shopWorker("v3", "a good one again", 0)); err != nil {
		return err
	}
	policy := map[string]any{
		"enabled": true, "max_failure_rate": 0.05, "min_requests": 50, "look_back_seconds": 60, "action": "rollback",
		"ramp": []map[string]any{{"percentage": 10, "bake_seconds": 2}, {"percentage": 50, "bake_seconds": 2}, {"percentage": 100, "bake_seconds": 2}},
	}
	if err := s.platform.API(ctx, http.MethodPut, "/accounts/{account}/workers/scripts/"+script+"/rollback-policy", policy, nil); err != nil {
		return err
	}
	t := startTraffic(ctx, s.platform, script, 4, 0)
	defer t.stop()
	_, err = s.platform.Deploy(ctx, script, deploy.Split{VersionID: s.v3, Percentage: 10_000}, deploy.Split{VersionID: s.v1, Percentage: 90_000})
	if err != nil {
		return err
	}
	began := time.Now()
	last := ""
	err = s.until(ctx, "v3 reaches 100 %", func() (bool, error) {
		deployments, err := s.platform.Deployments(ctx, script)
		if err != nil {
			return false, err
		}
		var shares []string
		for _, split := range deployments[0].Versions {
			shares = append(shares, fmt.Sprintf("%s at %s", s.name(split.VersionID), split.Percentage))
		}
		if now := strings.Join(shares, ", "); now != last {
			s.say("   %4.1f s: %s", time.Since(began).Seconds(), now)
			last = now
		}
		return len(shares) == 1 && deployments[0].Versions[0].VersionID == s.v3, nil
	})
	if err != nil {
		return err
	}
	if err := s.until(ctx, "v3 answers alone", func() (bool, error) { return t.streak("v3") >= 200, t.firstError() }); err != nil {
		return err
	}
	t.stop()
	if err := t.wait(); err != nil {
		return err
	}
	s.addTraffic(t)
	if t.failed("v1")+t.failed("v3") != 0 {
		return fmt.Errorf("%d requests failed during the ramp", t.failed("v1")+t.failed("v3"))
	}
	return nil
}

func (s *story) finish(ctx context.Context) error {
	if err := s.untilCounted(ctx, s.events()); err != nil {
		return err
	}
	counts, err := s.platform.Counts(ctx)
	if err != nil {
		return err
	}
	if counts.Kafka != s.events() || !counts.Agree() {
		return fmt.Errorf("counts differ: shop and stock answered %d; %s", s.events(), counts)
	}
	s.say("   shop answered %d, stock %d; %s", s.answeredSeen, s.stock.hits.Load(), counts)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.platform.Ready.API+"/", nil)
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		return fmt.Errorf("the start page answered %s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	s.say("   the start page answers at %s", s.platform.Ready.API)
	return nil
}

func (s *story) name(versionID string) string {
	return map[string]string{s.v1: "v1", s.v2: "v2", s.v3: "v3"}[versionID]
}

func firstFile(dir string) string {
	name := ""
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && name == "" && strings.HasSuffix(path, ".log.gz") {
			name, _ = filepath.Rel(dir, path)
		}
		return nil
	})
	return name
}
