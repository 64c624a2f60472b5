package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const rulesFile = "../../deploy/prometheus/alerts.yml"

// healthy is three hours of a platform on which nothing is wrong, one value a minute, as
// Prometheus has it. What is not there has not happened.
const healthy = `
up{job="tidegate",instance="r1"} 1x180
up{job="tidegate",instance="i1"} 1x180
tidegate_ready{instance="r1"} 1x180
tidegate_ready{instance="c1"} 0x3 1x177
process_open_fds{job="tidegate",instance="r1"} 100x180
process_max_fds{job="tidegate",instance="r1"} 1000x180
tidegate_stream_events_dropped_total{instance="r1",topic="workers_trace_events",reason="queue_full"} 5x180
tidegate_stream_events_dropped_total{instance="r1",topic="workers_tail",reason="away"} 0+9x180
tidegate_stream_spool_bytes{instance="r1",topic="workers_trace_events"} 0x180
tidegate_stream_producer_ids_refused{instance="r1",topic="workers_trace_events"} 0x177 1x2
tidegate_gateway_events_dropped_total{instance="r1",reason="unknown_version"} 0x180
tidegate_gateway_events_kept_at_bound_total{instance="r1"} 0x180
tidegate_gateway_snapshot_age_seconds{instance="r1"} 12x180
tidegate_gateway_snapshot_revision{instance="r1"} 7x180
tidegate_gateway_snapshot_refused_total{instance="r1",reason="older"} 1x180
tidegate_gateway_deployments_waiting{instance="r1"} 0x180
tidegate_gateway_events_unjoined_total{instance="r1",reason="timeout"} 0+1x180
tidegate_gateway_events_unjoined_total{instance="r1",reason="late"} 0+1x180
tidegate_gateway_invocations_total{instance="r1",event_type="fetch"} 0+6000x180
tidegate_gateway_schedules_total{instance="r1",result="ran"} 0+1x180
tidegate_gateway_schedules_total{instance="r1",result="elsewhere"} 0+1x180
tidegate_gateway_unmatched_requests_total{instance="r1",reason="loop"} 0x180
tidegate_gateway_unmatched_requests_total{instance="r1",reason="no_snapshot"} 0x180
tidegate_gateway_unmatched_requests_total{instance="r1",reason="unknown_host"} 0+50x180
tidegate_gateway_requests_total{instance="r1",decision="split",outcome="ok"} 0+60000x180
tidegate_gateway_requests_total{instance="r1",decision="split",outcome="internalError"} 0+600x180
tidegate_gateway_http2_errors_total{instance="r1",kind="framing"} 0+1x180
tidegate_gateway_client_timeouts_total{instance="r1",reason="send"} 0+1x180
tidegate_gateway_lean_requests_total{instance="r1",listener="gateway"} 0+60000x180
tidegate_gateway_lean_handovers_total{instance="r1",listener="gateway",reason="framing"} 0+900x180
tidegate_gateway_certificate_reloads_total{instance="r1",result="refused"} 0x180
tidegate_gateway_certificate_expiry_timestamp_seconds{instance="r1",certificate="a"} 2592000x180
tidegate_api_certificate_reloads_total{instance="c1",result="refused"} 0x180
tidegate_api_certificate_expiry_timestamp_seconds{instance="c1",certificate="a"} 2592000x180
tidegate_ops_certificate_reloads_total{instance="c1",result="refused"} 0x180
tidegate_ops_certificate_expiry_timestamp_seconds{instance="c1",certificate="a"} 2592000x180
tidegate_api_limited_total{instance="c1",reason="token"} 0+1x180
tidegate_gateway_acme_orders_total{instance="r1",result="failed"} 2x180
tidegate_gateway_acme_refused_total{instance="r1",reason="unknown_host"} 0+9x180
tidegate_gateway_tls_handshake_errors_total{instance="r1"} 0+5x180
tidegate_runtime_endpoints{instance="r1",state="in"} 8x180
tidegate_runtime_endpoints{instance="r1",state="down"} 0x180
tidegate_runtime_endpoint_ejections_total{instance="r1",kind="connect"} 1x180
tidegate_runtime_retries_refused_total{instance="r1",kind="connect"} 4x180
tidegate_runtime_requests_rejected_total{instance="r1"} 4x180
tidegate_runtime_endpoint_check_waits_total{instance="r1"} 0x170 3x10
tidegate_ingest_blocked_seconds{instance="i1",partition="0"} 0x180
tidegate_ingest_errors_total{instance="i1",stage="insert"} 0+1x180
tidegate_ingest_events_dropped_total{instance="i1",reason="deleted"} 0+9x180
tidegate_ingest_age_seconds_bucket{instance="i1",le="1.0"} 0+600x180
tidegate_ingest_age_seconds_bucket{instance="i1",le="5.0"} 0+600x180
tidegate_ingest_age_seconds_bucket{instance="i1",le="+Inf"} 0+600x180
tidegate_ingest_age_seconds_count{instance="i1"} 0+600x180
tidegate_ingest_held_bytes{instance="i1",where="fetched"} 100x180
tidegate_ingest_held_bytes{instance="i1",where="blocks"} 100x180
tidegate_ingest_held_bytes_max{instance="i1"} 1000x180
tidegate_ingest_inserts{instance="i1"} 4x180
tidegate_ingest_inserts_max{instance="i1"} 4x180
tidegate_ingest_wait_seconds_total{instance="i1",for="insert"} 0+1x180
tidegate_ingest_names{instance="i1"} 40000x180
tidegate_ingest_names_max{instance="i1"} 50000x180
tidegate_logpush_events_dropped_total{instance="i1",exported_job="1",reason="filter"} 0+9x180
tidegate_logpush_lag_seconds{instance="i1",exported_job="1"} 30x180
tidegate_logpush_failing{instance="i1",exported_job="1"} 0x180
tidegate_logpush_delay_seconds_bucket{instance="i1",exported_job="1",le="60.0"} 0+4x180
tidegate_logpush_delay_seconds_bucket{instance="i1",exported_job="1",le="120.0"} 0+4x180
tidegate_logpush_delay_seconds_bucket{instance="i1",exported_job="1",le="+Inf"} 0+4x180
tidegate_logpush_delay_seconds_count{instance="i1",exported_job="1"} 0+4x180
tidegate_logpush_dead_letters_total{instance="i1",exported_job="1"} 3x180
tidegate_logpush_alerts_total{type="failing",result="sent",instance="i1"} 0+1x180
tidegate_rollback_steps_total{instance="c1"} 0+120x180
tidegate_rollback_steps_total{instance="c2"} 0+120x180
tidegate_rollback_active{instance="c1"} 1x90 0x90
tidegate_rollback_active{instance="c2"} 0x91 1x89
tidegate_rollback_unwatched_scripts{instance="c1"} 1x10 0x170
tidegate_rollback_errors_total{instance="c1",stage="rates"} 7x180
tidegate_rollback_notifications_total{instance="c1",type="slack",result="sent"} 0+1x180
`

// trouble is what each alert is for, in the last of three hours, on an instance (or job, or
// stage) of its own.
var trouble = []struct{ alert, fires, series string }{
	{"TidegateDown", `instance="down"`, `up{job="tidegate",instance="down"} 1x120 0x60`},
	{"TidegateNotReady", `instance="waits"`, `tidegate_ready{instance="waits"} 1x170 0x10`},
	{"TidegateFewFilesLeft", `instance="files"`, "process_open_fds{job=\"tidegate\",instance=\"files\"} 600x180\nprocess_max_fds{job=\"tidegate\",instance=\"files\"} 1000x180"},
	// It appears with its first event.
	{"TidegateEventsDropped", `instance="lossy", reason="spool_full"`, `tidegate_stream_events_dropped_total{instance="lossy",topic="workers_trace_events",reason="spool_full"} _x174 8x6`},
	{"TidegateEventsDropped", `instance="lossy", reason="unknown_version"`, `tidegate_gateway_events_dropped_total{instance="lossy",reason="unknown_version"} 0x174 8x6`},
	{"TidegateSpoolGrows", `instance="spooling"`, `tidegate_stream_spool_bytes{instance="spooling",topic="workers_trace_events"} 0x120 0+4096x60`},
	{"TidegateProducerIDsRefused", `instance="unknown"`, `tidegate_stream_producer_ids_refused{instance="unknown",topic="workers_trace_events"} 0x170 1x9`},
	{"TidegateSnapshotOld", `instance="alone"`, `tidegate_gateway_snapshot_age_seconds{instance="alone"} 10x176 70+60x4`},
	{"TidegateSnapshotMissing", `instance="new"`, `tidegate_gateway_snapshot_revision{instance="new"} 0x180`},
	{"TidegateSnapshotRefused", `instance="ahead", reason="older"`, `tidegate_gateway_snapshot_refused_total{instance="ahead",reason="older"} 0x174 1x6`},
	{"TidegateDeploymentWaits", `instance="waits"`, `tidegate_gateway_deployments_waiting{instance="waits"} 1x180`},
	{"TidegateEventsUnjoined", `instance="silent"`, "tidegate_gateway_events_unjoined_total{instance=\"silent\",reason=\"timeout\"} 0+30x180\ntidegate_gateway_invocations_total{instance=\"silent\",event_type=\"fetch\"} 0+600x180"},
	{"TidegateSchedulesFail", `instance="cron", result="not_started"`, `tidegate_gateway_schedules_total{instance="cron",result="not_started"} _x174 1x6`},
	{"TidegateRequestLoop", `instance="loop", reason="loop"`, `tidegate_gateway_unmatched_requests_total{instance="loop",reason="loop"} 0x174 1x6`},
	{"TidegateEventsKeptAtBound", `instance="kinds"`, `tidegate_gateway_events_kept_at_bound_total{instance="kinds"} 0x174 1x6`},
	{"TidegateConnectionsRefused", `instance="full", reason="client"`, `tidegate_gateway_connections_refused_total{instance="full",reason="client"} _x174 1x6`},
	{"TidegateClientTrouble", `instance="attacked"`, `tidegate_gateway_http2_errors_total{instance="attacked",kind="framing"} _x172 0+600x8`},
	{"TidegateProxyProtocolRefused", `instance="behind", reason="missing"`, `tidegate_gateway_proxy_protocol_refused_total{instance="behind",reason="missing"} _x174 1x6`},
	{"TidegateFastPathUnused", `instance="slow", reason="upgrade"`, "tidegate_gateway_lean_requests_total{instance=\"slow\",listener=\"gateway\"} 0+60x180\ntidegate_gateway_lean_handovers_total{instance=\"slow\",listener=\"gateway\",reason=\"upgrade\"} 0+6000x180"},
	{"TidegateCertificateRefused", `instance="pem", result="refused"`, `tidegate_gateway_certificate_reloads_total{instance="pem",result="refused"} 0x174 1x6`},
	{"TidegateCertificateExpires", `certificate="b", instance="old"`, `tidegate_gateway_certificate_expiry_timestamp_seconds{instance="old",certificate="b"} 259200x180`},
	{"TidegateCertificateRefused", `instance="pem2", result="refused"`, `tidegate_api_certificate_reloads_total{instance="pem2",result="refused"} 0x174 1x6`},
	{"TidegateCertificateRefused", `instance="pem3", result="refused"`, `tidegate_ops_certificate_reloads_total{instance="pem3",result="refused"} 0x174 1x6`},
	{"TidegateCertificateExpires", `certificate="c", instance="old"`, `tidegate_api_certificate_expiry_timestamp_seconds{instance="old",certificate="c"} 259200x180`},
	{"TidegateCertificateExpires", `certificate="d", instance="old"`, `tidegate_ops_certificate_expiry_timestamp_seconds{instance="old",certificate="d"} 259200x180`},
	{"TidegateAPILimited", `instance="limits", reason="unknown_token"`, `tidegate_api_limited_total{instance="limits",reason="unknown_token"} _x174 200x6`},
	{"TidegateACMEFails", `instance="acme"`, `tidegate_gateway_acme_orders_total{instance="acme",result="failed"} 0x174 1x6`},
	{"TidegateTLSHandshakesFail", `instance="tls"`, `tidegate_gateway_tls_handshake_errors_total{instance="tls"} _x172 0+600x8`},
	{"TidegateEndpointsDown", `instance="ends", state="ejected"`, `tidegate_runtime_endpoints{instance="ends",state="ejected"} 1x180`},
	{"TidegateEndpointsFail", `instance="eject", kind="connect"`, `tidegate_runtime_endpoint_ejections_total{instance="eject",kind="connect"} _x174 4x6`},
	{"TidegateRetriesSpent", `instance="budget"`, `tidegate_runtime_retries_refused_total{instance="budget",kind="connect"} _x172 5x8`},
	{"TidegateOriginFull", `instance="busy"`, `tidegate_runtime_requests_rejected_total{instance="busy"} _x172 5x8`},
	{"TidegateEndpointChecksWait", `instance="checks"`, `tidegate_runtime_endpoint_check_waits_total{instance="checks"} 0x140 0+9x40`},
	{"TidegateIngestBlocked", `instance="i1", partition="7"`, `tidegate_ingest_blocked_seconds{instance="i1",partition="7"} 0x170 0+60x10`},
	{"TidegateIngestPartitionsWait", `instance="i2"`, `tidegate_ingest_errors_total{instance="i2",stage="hold"} _x174 1x6`},
	{"TidegateIngestOffsetsLost", `instance="i3"`, `tidegate_ingest_errors_total{instance="i3",stage="behind"} _x174 1x6`},
	{"TidegateIngestEventsLost", `instance="i3", reason="retention"`, `tidegate_ingest_events_dropped_total{instance="i3",reason="retention"} _x174 90x6`},
	{"TidegateIngestLate", ``, "tidegate_ingest_age_seconds_bucket{instance=\"late\",le=\"60.0\"} 0x160 0+60x20\ntidegate_ingest_age_seconds_bucket{instance=\"late\",le=\"+Inf\"} 0x160 0+60x20"},
	{"TidegateIngestMemoryFull", `instance="i4"`, "tidegate_ingest_held_bytes{instance=\"i4\",where=\"fetched\"} 950x180\ntidegate_ingest_held_bytes_max{instance=\"i4\"} 1000x180"},
	{"TidegateIngestInsertsFull", `instance="i5"`, "tidegate_ingest_inserts{instance=\"i5\"} 4x180\ntidegate_ingest_inserts_max{instance=\"i5\"} 4x180\ntidegate_ingest_wait_seconds_total{instance=\"i5\",for=\"insert\"} 0+600x180"},
	{"TidegateIngestNamesFull", `instance="i7"`, "tidegate_ingest_names{instance=\"i7\"} 45000x180\ntidegate_ingest_names_max{instance=\"i7\"} 50000x180"},
	{"TidegateQuarantine", `instance="i6", reason="schema"`, `tidegate_ingest_events_quarantined_total{instance="i6",reason="schema"} _x174 1x6`},
	{"TidegateLogpushEventsLost", `exported_job="2", reason="retention"`, `tidegate_logpush_events_dropped_total{instance="i1",exported_job="2",reason="retention"} _x174 9x6`},
	{"TidegateLogpushLags", `exported_job="3"`, `tidegate_logpush_lag_seconds{instance="i1",exported_job="3"} 30x160 630+60x20`},
	{"TidegateLogpushFailing", `exported_job="4"`, `tidegate_logpush_failing{instance="i1",exported_job="4"} 1x180`},
	{"TidegateLogpushSlow", `exported_job="5"`, "tidegate_logpush_delay_seconds_bucket{instance=\"i1\",exported_job=\"5\",le=\"120.0\"} 0x180\ntidegate_logpush_delay_seconds_bucket{instance=\"i1\",exported_job=\"5\",le=\"300.0\"} 0+2x180\ntidegate_logpush_delay_seconds_bucket{instance=\"i1\",exported_job=\"5\",le=\"+Inf\"} 0+2x180"},
	{"TidegateDeadLetters", `exported_job="6"`, `tidegate_logpush_dead_letters_total{instance="i1",exported_job="6"} _x174 1x6`},
	{"TidegateLogpushAlertsLost", `result="failed", type="failing"`, `tidegate_logpush_alerts_total{instance="i1",type="failing",result="failed"} _x174 1x6`},
	{"TidegateRollbackErrors", `stage="apply"`, `tidegate_rollback_errors_total{instance="c1",stage="apply"} 0+1x180`},
	{"TidegateScriptsUnwatched", ``, `tidegate_rollback_unwatched_scripts{instance="c3"} 0x160 2x20`},
	{"TidegateNotificationsFail", `type="webhook"`, `tidegate_rollback_notifications_total{instance="c1",type="webhook",result="failed"} _x174 1x6`},
	{"TidegateNotificationsFail", `type="email"`, `tidegate_rollback_notifications_dropped_total{instance="c1",type="email"} _x174 1x6`},
}

// objectives are what each burns by: a thirtieth of the healthy requests fail, and so on.
var objectives = map[string]string{
	"gateway":       `tidegate_gateway_unmatched_requests_total{instance="r9",reason="no_snapshot"} 0+2000x180`,
	"freshness":     "tidegate_ingest_age_seconds_bucket{instance=\"i9\",le=\"5.0\"} 0x180\ntidegate_ingest_age_seconds_count{instance=\"i9\"} 0+200x180",
	"delivery":      "tidegate_logpush_delay_seconds_bucket{instance=\"i9\",exported_job=\"9\",le=\"120.0\"} 0x180\ntidegate_logpush_delay_seconds_count{instance=\"i9\",exported_job=\"9\"} 0+2x180",
	"configuration": `tidegate_gateway_snapshot_age_seconds{instance="r9"} 61x180`,
}

// firing is which alerts fire after three hours of series, each with its labels but the
// severity, as Prometheus evaluates the rules.
func firing(t *testing.T, series string) (alerts []string) {
	t.Helper()
	storage := promqltest.LoadedStorage(t, "load 1m\n"+strings.TrimSpace(series))
	t.Cleanup(func() { _ = storage.Close() })
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000), storage),
		Queryable: storage, AppendableV2: storage, Context: t.Context(), Logger: slog.New(slog.DiscardHandler),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, NameValidationScheme: model.UTF8Validation,
		Parser: parser.NewParser(parser.Options{}),
	})
	groups, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, rulesFile)
	if errs != nil {
		t.Fatal(errs)
	}
	for minute := range 181 {
		for _, name := range []string{"tidegate-objectives", ""} { // what is recorded comes first
			for _, g := range groups {
				if (g.Name() == "tidegate-objectives") == (name != "") {
					g.Eval(t.Context(), time.Unix(0, 0).UTC().Add(time.Duration(minute)*time.Minute))
				}
			}
		}
	}
	for _, g := range groups {
		for _, rule := range g.Rules() {
			if err := rule.LastError(); err != nil {
				t.Errorf("%s: %v", rule.Name(), err)
			}
		}
		for _, rule := range g.AlertingRules() {
			for _, a := range rule.ActiveAlerts() {
				if a.State == rules.StateFiring {
					kept := labels.NewBuilder(a.Labels).Del("alertname", "severity", "job", "topic").Labels()
					alerts = append(alerts, rule.Name()+kept.String())
					said(t, rule.Name(), a.Annotations)
				}
			}
		}
	}
	slices.Sort(alerts)
	return alerts
}

// said checks that the sentences of an alert are complete.
func said(t *testing.T, alert string, annotations labels.Labels) {
	t.Helper()
	for _, name := range []string{"summary", "description"} {
		text := annotations.Get(name)
		if text == "" || strings.Contains(text, "<no value>") || strings.Contains(text, "error") && strings.Contains(text, "template") || strings.Contains(text, "()") {
			t.Errorf("%s: the %s is %q", alert, name, text)
		}
	}
}

func TestNothingFiresOnAHealthyPlatform(t *testing.T) {
	t.Parallel()
	if alerts := firing(t, healthy); len(alerts) > 0 {
		t.Errorf("fires: %v", alerts)
	}
}

func TestEachAlertFires(t *testing.T) {
	t.Parallel()
	all := healthy
	var want []string
	for _, c := range trouble {
		all += c.series + "\n"
		want = append(want, c.alert+"{"+c.fires+"}")
	}
	slices.Sort(want)
	var got []string
	for _, alert := range firing(t, all) {
		if !strings.HasPrefix(alert, "TidegateObjective") { // so much trouble misses them, too
			got = append(got, alert)
		}
	}
	for _, alert := range want {
		if !slices.Contains(got, alert) {
			t.Errorf("does not fire: %s", alert)
		}
	}
	for _, alert := range got {
		if !slices.Contains(want, alert) {
			t.Errorf("fires, and should not: %s", alert)
		}
	}
	for _, alert := range alertNames(t) {
		if !strings.HasPrefix(alert, "TidegateObjective") && alert != "TidegateNothingJudged" && !slices.ContainsFunc(want, func(s string) bool { return strings.HasPrefix(s, alert+"{") }) {
			t.Errorf("nothing is planted for %s", alert)
		}
	}
}

func TestObjectivesBurn(t *testing.T) {
	for slo, series := range objectives {
		t.Run(slo, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(firing(t, healthy+series+"\n"), " ")
			for _, alert := range []string{"TidegateObjectiveBurns", "TidegateObjectiveBurnsFast"} {
				if want := fmt.Sprintf("%s{slo=%q}", alert, slo); !strings.Contains(got, want) {
					t.Errorf("got %s, want %s", got, want)
				}
			}
			for other := range objectives {
				if other != slo && strings.Contains(got, fmt.Sprintf("slo=%q", other)) {
					t.Errorf("%s is missed, too: %s", other, got)
				}
			}
		})
	}
}

// The story: all routers came up without a snapshot and answered 503 to everybody. None had served a request, and none had
// the age of a snapshot, so that the ratios were absent and nothing fired.
func TestRoutersWithoutASnapshotAreSeen(t *testing.T) {
	t.Parallel()
	alerts := firing(t, `
up{job="tidegate",instance="r1"} 1x180
tidegate_gateway_snapshot_revision{instance="r1"} 0x180
tidegate_gateway_unmatched_requests_total{instance="r1",reason="no_snapshot"} 0+2000x180
`)
	want := []string{
		`TidegateObjectiveBurnsFast{slo="configuration"}`, `TidegateObjectiveBurnsFast{slo="gateway"}`,
		`TidegateObjectiveBurns{slo="configuration"}`, `TidegateObjectiveBurns{slo="gateway"}`,
		`TidegateSnapshotMissing{instance="r1"}`,
	}
	slices.Sort(want)
	if !slices.Equal(alerts, want) {
		t.Errorf("fires %v, want %v", alerts, want)
	}
}

// What the platform promises first: somebody judges. The story: the controllers of all control planes stood still, and
// another time none could have the lease, because its holder's clock had been ahead. Nothing fired.
func TestNobodyJudges(t *testing.T) {
	for name, c := range map[string]struct {
		series string
		fires  bool
	}{
		"nothing is installed":      {`up{job="prometheus",instance="p"} 1x180`, false},
		"no controller ever":        {`up{job="tidegate",instance="r1"} 1x180`, false},
		"fresh":                     {"tidegate_rollback_steps_total{instance=\"c1\"} _x178 0+120x2\ntidegate_rollback_active{instance=\"c1\"} _x178 1x2", false},
		"idle":                      {"tidegate_rollback_steps_total{instance=\"c1\"} 0+120x180\ntidegate_rollback_active{instance=\"c1\"} 1x180", false},
		"one of two stands still":   {"tidegate_rollback_steps_total{instance=\"c1\"} 5x180\ntidegate_rollback_steps_total{instance=\"c2\"} 0+120x180\ntidegate_rollback_active{instance=\"c2\"} 1x180", false},
		"one after the other":       {"tidegate_rollback_steps_total{instance=\"c1\"} 0+120x90\ntidegate_rollback_steps_total{instance=\"c2\"} _x93 0+120x87\ntidegate_rollback_active{instance=\"c2\"} _x93 1x87", false},
		"a release without it":      {`tidegate_rollback_steps_total{instance="c1"} 0+120x180`, false},
		"the release before judges": {"tidegate_rollback_steps_total{instance=\"old\"} 0+120x180\ntidegate_rollback_steps_total{instance=\"c1\"} 0+120x180\ntidegate_rollback_active{instance=\"c1\"} 0x180", false},
		"all stand still":           {"tidegate_rollback_steps_total{instance=\"c1\"} 0+120x160 19200x20\ntidegate_rollback_steps_total{instance=\"c2\"} 7x180\ntidegate_rollback_active{instance=\"c1\"} 1x180", true},
		"all are gone":              {"tidegate_rollback_steps_total{instance=\"c1\"} 0+120x150\ntidegate_rollback_active{instance=\"c1\"} 1x150", true},
		"none has the lease":        {"tidegate_rollback_steps_total{instance=\"c1\"} 0+120x180\ntidegate_rollback_steps_total{instance=\"c2\"} 0+120x180\ntidegate_rollback_active{instance=\"c1\"} 1x150 0x30\ntidegate_rollback_active{instance=\"c2\"} 0x180", true},
		"the lease changes hands":   {"tidegate_rollback_steps_total{instance=\"c1\"} 0+120x180\ntidegate_rollback_active{instance=\"c1\"} 1x177 0x3\ntidegate_rollback_active{instance=\"c2\"} 0x180", false},
		"it came up, and works not": {"tidegate_rollback_steps_total{instance=\"c1\"} _x150 0x30\ntidegate_rollback_active{instance=\"c1\"} _x150 0x30", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := slices.Contains(firing(t, c.series), "TidegateNothingJudged{}"); got != c.fires {
				t.Errorf("fires: %v, want %v", got, c.fires)
			}
		})
	}
}

// alertNames are the alerts of the file.
func alertNames(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "- alert: "); ok {
			names = append(names, name)
		}
	}
	return names
}
