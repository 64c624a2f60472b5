package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
	"tidegate/schema"
	"tidegate/schema/control"
)

// graphPlatform notes what is asked of the invocations, and answers with some.
func graphPlatform(t *testing.T, list ...schema.InvocationGroup) (*platform, *[]schema.InvocationQuery) {
	t.Helper()
	p := newPlatform(t)
	asked := new([]schema.InvocationQuery)
	p.metrics.invocations = func(_ context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error) {
		*asked = append(*asked, q)
		return list, nil
	}
	return p, asked
}

var someGroup = schema.InvocationGroup{
	ScriptName: "shop", VersionID: servedID, Status: "scriptThrewException", Time: time.Date(2026, 11, 5, 13, 47, 21, 0, time.UTC),
	Requests: 30, Errors: 3, Stored: new(int64(10)),
	WallMs: schema.InvocationTimes{Quantiles: map[float64]float64{0.5: 1.5, 0.99: 20}, Max: new(21.5)},
}

// Queries as clients send them that have been published: Cloudflare's tutorial, exporters for
// Prometheus, scripts that judge a deployment. They are written anew, with the types of
// variables that these clients declare, which differ from those of the schema.
func TestQueriesOfPublishedClients(t *testing.T) {
	p, asked := graphPlatform(t, someGroup)
	until := time.Now().UTC().Truncate(time.Second)
	since := until.Add(-time.Hour)
	variables := map[string]any{"account": account, "script": "shop", "since": since.Format("2006-01-02T15:04:05.000Z"), "until": until.Format(time.RFC3339Nano),
		"limit": 9999, "day": since.Format(time.DateOnly),
		"filter": map[string]any{"datetime_geq": since.Format(time.RFC3339), "datetime_leq": until.Format(time.RFC3339)}}
	shop := schema.InvocationCondition{All: []schema.InvocationCondition{{Dimension: schema.InvocationScript, Operator: schema.InvocationEqual, Values: []string{"shop"}}}}
	f := func(query string, want schema.InvocationQuery, answer string) {
		t.Helper()
		*asked = nil
		used := map[string]any{}
		for name, value := range variables {
			if strings.Contains(query, "$"+name) {
				used[name] = value
			}
		}
		if got, want := p.graph(t, p.token, query, used), `200 {"data":{"viewer":{"accounts":[`+answer+`]}},"errors":null}`; got != want {
			t.Errorf("%s\nanswered\n%s, want\n%s", query, got, want)
		}
		want.AccountID = account
		if want.Since.IsZero() {
			want.Since, want.Until = since, until.Add(time.Second) // the last second is included
		}
		if len(*asked) == 0 {
			t.Fatalf("%s asked for nothing", query)
		}
		if diff := cmp.Diff(want, (*asked)[0]); diff != "" {
			t.Errorf("%s asked (-want +got)\n%s", query, diff)
		}
	}
	f(`query GetWorkersAnalytics($account: string, $since: string, $until: string, $script: string) {
		viewer { accounts(filter: {accountTag: $account}) {
			workersInvocationsAdaptive(limit: 100, filter: {scriptName: $script, datetime_geq: $since, datetime_leq: $until}) {
				sum { subrequests requests errors } quantiles { cpuTimeP50 cpuTimeP99 } dimensions { datetime scriptName status }
			} } } }`,
		schema.InvocationQuery{Where: shop, By: []string{schema.InvocationTime, schema.InvocationScript, schema.InvocationStatus}, Step: time.Second, Levels: []float64{0.5, 0.99}, Limit: 100},
		`{"workersInvocationsAdaptive":[{"dimensions":{"datetime":"2026-11-05T13:47:21Z","scriptName":"shop","status":"scriptThrewException"},`+
			`"quantiles":{"cpuTimeP50":null,"cpuTimeP99":null},"sum":{"errors":3,"requests":30,"subrequests":null}}]}`)
	f(`query ($account: String!, $script: String!, $since: Time!, $until: Time!) {
		viewer { accounts(filter: { accountTag: $account }) {
			workersInvocationsAdaptive(limit: 100, filter: { scriptName: $script, datetime_geq: $since, datetime_leq: $until }) {
				sum { requests errors } dimensions { scriptVersion }
			} } } }`,
		schema.InvocationQuery{Where: shop, By: []string{schema.InvocationVersion}, Limit: 100},
		`{"workersInvocationsAdaptive":[{"dimensions":{"scriptVersion":"`+servedID+`"},"sum":{"errors":3,"requests":30}}]}`)
	f(`query Canary($account: string!, $script: string!, $since: Time!, $until: Time!) {
		viewer { accounts(filter: { accountTag: $account }) {
			workersInvocationsAdaptive(limit: 1000, orderBy: [sum_requests_DESC], filter: { scriptName: $script, datetime_geq: $since, datetime_lt: $until }) {
				sum { requests errors } quantiles { wallTimeP50 wallTimeP95 wallTimeP99 } dimensions { version: scriptVersion } __typename
			} } } }`,
		schema.InvocationQuery{Where: shop, By: []string{schema.InvocationVersion}, Since: since, Until: until, Levels: []float64{0.5, 0.95, 0.99}, Limit: 1000,
			Order: []schema.InvocationOrder{{By: schema.InvocationRequests, Descending: true}}},
		`{"workersInvocationsAdaptive":[{"__typename":"AccountWorkersInvocationsAdaptive","dimensions":{"version":"`+servedID+`"},`+
			`"quantiles":{"wallTimeP50":1500,"wallTimeP95":null,"wallTimeP99":20000},"sum":{"errors":3,"requests":30}}]}`)
	f(`query ($account: String!, $since: Time!, $until: Time!, $limit: Int!) {
		viewer { accounts(filter: {accountTag: $account}) {
			workersInvocationsAdaptive(limit: $limit, filter: {datetime_geq: $since, datetime_lt: $until}) {
				dimensions { scriptName status } sum { requests errors duration }
				quantiles { cpuTimeP50 cpuTimeP75 cpuTimeP99 cpuTimeP999 durationP50 durationP75 durationP99 durationP999 }
			} } } }`,
		schema.InvocationQuery{By: []string{schema.InvocationScript, schema.InvocationStatus}, Since: since, Until: until, Levels: []float64{0.5, 0.75, 0.99, 0.999}, Limit: 9999},
		`{"workersInvocationsAdaptive":[{"dimensions":{"scriptName":"shop","status":"scriptThrewException"},`+
			`"quantiles":{"cpuTimeP50":null,"cpuTimeP75":null,"cpuTimeP99":null,"cpuTimeP999":null,"durationP50":null,"durationP75":null,"durationP99":null,"durationP999":null},`+
			`"sum":{"duration":null,"errors":3,"requests":30}}]}`)
	f(`query Billing($account: String!, $filter: AccountWorkersInvocationsAdaptiveFilter_InputObject) {
		viewer { accounts(filter: {accountTag: $account}) { workersInvocationsAdaptive(limit: 10000, filter: $filter) { sum { requests cpuTimeUs } max { wallTime cpuTime } avg { sampleInterval } } } } }`,
		schema.InvocationQuery{Extremes: true, Stored: true, Limit: 10000},
		`{"workersInvocationsAdaptive":[{"avg":{"sampleInterval":3},"max":{"cpuTime":null,"wallTime":21500},"sum":{"cpuTimeUs":null,"requests":30}}]}`)
	f(`query ($account: string!, $day: Date) {
		viewer { accounts(filter: {accountTag: $account}) { workersInvocationsAdaptive(limit: 1, filter: {date: $day}, orderBy: [date_ASC, datetimeHour_DESC]) { dimensions { date datetimeHour datetimeFifteenMinutes } } } } }`,
		schema.InvocationQuery{By: []string{schema.InvocationTime}, Step: 15 * time.Minute, Limit: 1, Since: since.Truncate(24 * time.Hour), Until: minTime(since.Truncate(24*time.Hour).Add(24*time.Hour), p.now()),
			Order: []schema.InvocationOrder{{By: schema.InvocationTime, Step: 24 * time.Hour}, {By: schema.InvocationTime, Step: time.Hour, Descending: true}}},
		`{"workersInvocationsAdaptive":[{"dimensions":{"date":"2026-11-05","datetimeFifteenMinutes":"2026-11-05T13:45:00Z","datetimeHour":"2026-11-05T13:00:00Z"}}]}`)
	f(`query ($account: String!, $since: Time!) { viewer { accounts(filter: {accountTag: $account}) {
			now: workersInvocationsAdaptive(limit: 1, filter: {datetime_geq: $since, datetime_lt: "`+until.Format(time.RFC3339)+`"}) { sum { requests } }
			before: workersInvocationsAdaptive(limit: 1, filter: {datetime_lt: $since, datetime_geq: "`+since.Add(-time.Hour).Format(time.RFC3339)+`"}) { ...some }
		} } } fragment some on AccountWorkersInvocationsAdaptive { sum { errors @include(if: true) requests @skip(if: true) } }`,
		schema.InvocationQuery{Since: since, Until: until, Limit: 1}, `{"before":[{"sum":{"errors":3}}],"now":[{"sum":{"requests":30}}]}`)
}

// now is the end of a query that names none: the second that has begun is in it.
func (p *platform) now() time.Time { return time.Now().UTC().Add(time.Second).Truncate(time.Second) }

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func TestFiltersOfInvocations(t *testing.T) {
	p, asked := graphPlatform(t)
	f := func(filter string, since, until string, where ...schema.InvocationCondition) {
		t.Helper()
		*asked = nil
		query := fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { workersInvocationsAdaptive(limit: 5, filter: {%s}) { sum { requests } } } } }`, account, filter)
		if got := p.graph(t, p.token, query, nil); got != `200 {"data":{"viewer":{"accounts":[{"workersInvocationsAdaptive":[]}]}},"errors":null}` {
			t.Errorf("%s answered %s", filter, got)
		}
		if since == "" {
			if len(*asked) > 0 {
				t.Errorf("%s asked %+v of a time that is empty", filter, *asked)
			}
			return
		}
		if len(*asked) != 1 {
			t.Fatalf("%s asked %d times", filter, len(*asked))
		}
		q := (*asked)[0]
		if got := q.Since.Format(time.RFC3339) + " " + q.Until.Format(time.RFC3339); got != since+" "+until {
			t.Errorf("%s is from %s, want %s %s", filter, got, since, until)
		}
		if diff := cmp.Diff(where, q.Where.All); diff != "" {
			t.Errorf("%s (-want +got)\n%s", filter, diff)
		}
	}
	const noon, one = "2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"
	f(`datetime_geq: "2026-01-31T11:59:59.001Z", datetime_lt: "2026-01-31T14:00:00+01:00"`, noon, one)
	f(`datetime_gt: "2026-01-31T11:59:59.9Z", datetime_leq: "2026-01-31T12:59:59.5Z"`, noon, one)
	f(`datetimeHour: "2026-01-31T12:00:00Z"`, noon, one)
	f(`datetimeHour: "2026-01-31T12:00:01Z"`, "", "")
	f(`datetimeHour_gt: "2026-01-31T11:30:00Z", datetimeMinute_leq: "2026-01-31T12:59:30Z"`, noon, one)
	f(`datetimeFifteenMinutes_geq: "2026-01-31T11:50:00Z", datetimeFiveMinutes_lt: "2026-01-31T12:58:00Z"`, noon, one)
	f(`date_geq: "2026-01-31", date_leq: "2026-02-01"`, "2026-01-31T00:00:00Z", "2026-02-02T00:00:00Z")
	f(`date_gt: "2026-01-30T00:00:00.000Z", date_lt: "2026-02-01"`, "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z")
	f(`datetime_geq: "2026-01-31T13:00:00Z", datetime_lt: "2026-01-31T12:00:00Z"`, "", "")
	f(`AND: [{datetime_geq: "2026-01-31T10:00:00Z"}, {datetime_geq: "2026-01-31T12:00:00Z", AND: {datetime_lt: "2026-01-31T13:00:00Z"}}]`, noon, one,
		schema.InvocationCondition{All: []schema.InvocationCondition{{}, {All: []schema.InvocationCondition{{All: []schema.InvocationCondition{{}}}}}}})
	is := func(dimension string, operator schema.InvocationOperator, values ...string) schema.InvocationCondition {
		return schema.InvocationCondition{Dimension: dimension, Operator: operator, Values: values}
	}
	const hour = `datetimeHour: "2026-01-31T12:00:00Z", `
	f(hour+`scriptName_in: ["a", "b"], scriptVersion_neq: "v", status_like: "exceeded%"`, noon, one,
		is(schema.InvocationScript, schema.InvocationIn, "a", "b"), is(schema.InvocationVersion, schema.InvocationNotEqual, "v"), is(schema.InvocationStatus, schema.InvocationLike, "exceeded%"))
	f(hour+`scriptName_notin: "a"`, noon, one, is(schema.InvocationScript, schema.InvocationNotIn, "a"))
	f(hour+`scriptName_notin: [], status_in: []`, noon, one, schema.InvocationCondition{}, schema.InvocationCondition{Any: []schema.InvocationCondition{}})
	f(hour+`OR: [{status: "success"}, {scriptName_geq: "m", scriptName_lt: "n"}]`, noon, one, schema.InvocationCondition{Any: []schema.InvocationCondition{
		{All: []schema.InvocationCondition{is(schema.InvocationStatus, schema.InvocationEqual, "success")}},
		{All: []schema.InvocationCondition{is(schema.InvocationScript, schema.InvocationAtLeast, "m"), is(schema.InvocationScript, schema.InvocationLess, "n")}}}})
}

func TestThirtyOneDaysOfInvocations(t *testing.T) {
	p, asked := graphPlatform(t)
	f := func(filter string, want bool) {
		t.Helper()
		*asked = nil
		query := fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { workersInvocationsAdaptive(limit: 5, filter: {%s}) { sum { requests } } } } }`, account, filter)
		if got := p.graph(t, p.token, query, nil); want != (len(*asked) == 1) || want != strings.HasPrefix(got, "200 ") || want == strings.Contains(got, "31 days are the most") {
			t.Errorf("%s asked %+v and answered %s", filter, *asked, got)
		}
	}
	f(`datetime_geq: "2026-01-27T00:00:00Z", datetime_leq: "2026-02-27T00:00:00Z"`, true)
	f(`datetime_geq: "2026-01-27T00:00:00Z", datetimeMinute_leq: "2026-02-27T00:00:00Z"`, true)
	f(`datetime_geq: "2026-01-27T00:00:00Z", datetime_lt: "2026-02-27T00:02:00Z"`, false)
	f(`date_geq: "2026-01-27", date_leq: "2026-02-26"`, true)
	f(`date_geq: "2026-01-27", date_leq: "2026-02-27"`, false)
	ago := func(more time.Duration) string {
		return fmt.Sprintf(`datetime_geq: %q`, time.Now().UTC().Add(-31*24*time.Hour-more).Format(time.RFC3339))
	}
	f(ago(0), true)
	f(ago(2*time.Minute), false)
}

func TestRefusedQueriesOfInvocations(t *testing.T) {
	p, _ := graphPlatform(t)
	node := func(arguments, fields string) string {
		return fmt.Sprintf(`query ($x: String, $n: [String!]) { viewer { accounts(filter: {accountTag: %q}) { workersInvocationsAdaptive(%s) { %s sum { requests } } } } }`, account, arguments, fields)
	}
	f := func(status int, query, want string, variables map[string]any) {
		t.Helper()
		got := p.graph(t, p.token, query, variables)
		var answer struct {
			Data   any
			Errors []struct {
				Message    string
				Path       []string
				Extensions struct{ Timestamp time.Time }
			}
		}
		text, isStatus := strings.CutPrefix(got, fmt.Sprint(status, " "))
		if err := json.Unmarshal([]byte(text), &answer); !isStatus || err != nil || answer.Data != nil || len(answer.Errors) == 0 || answer.Errors[0].Extensions.Timestamp.IsZero() {
			t.Errorf("%s answered %s, want %d", query, got, status)
			return
		}
		for _, e := range answer.Errors {
			if strings.Contains(e.Message, want) {
				return
			}
		}
		t.Errorf("%s answered %s, want %q", query, got, want)
	}
	const used, hour = ` d: quantiles @include(if: true) { cpuTimeP50 }`, `limit: 1, filter: {datetimeHour: "2026-01-31T12:00:00Z"`
	unused := func(query string) string {
		return strings.Replace(query, "query ($x: String, $n: [String!])", "query", 1)
	}
	bad := func(arguments, fields, want string) {
		t.Helper()
		f(http.StatusBadRequest, unused(node(arguments, fields)), want, nil)
	}
	bad(`limit: 1`, used, "query time range is too large: filter must say where it begins")
	bad(`limit: 1, filter: {datetime_lt: "2026-01-31T12:00:00Z"}`, used, "where it begins")
	bad(`limit: 1, filter: {date_geq: "2026-01-01", date_leq: "2026-02-01"}`, used, "query time range is too large: it is 768h0m0s")
	bad(`limit: 0, filter: {}`, used, "limit must be positive number and not greater than 10000")
	bad(`limit: 10001, filter: {}`, used, "not greater than 10000")
	bad(`limit: 99999999999999999999, filter: {}`, used, "error parsing args: limit")
	bad(`limit: "1", filter: {}`, used, "limit must be")
	bad(`filter: {}`, used, "error parsing args: ")
	bad(hour+`, datetime_neq: "2026-01-31T12:00:00Z"}`, used, "datetime_neq")
	bad(hour+`, coloCode: "FRA"}`, used, "coloCode")
	bad(hour+`, OR: [{datetime_geq: "2026-01-31T12:00:00Z"}]}`, used, "datetime_geq cannot be in OR")
	bad(hour+`, scriptName: null}`, used, "scriptName is null")
	bad(hour+`, scriptName_in: ["a", null]}`, used, "null")
	bad(hour+`, scriptName: 7}`, used, "it must be a string")
	bad(hour+`, scriptName: "`+strings.Repeat("x", 129)+`"}`, used, "128 bytes")
	bad(hour+`, scriptName_like: "a\\"}`, used, "scriptName_like ends in a")
	bad(hour+`, scriptName_notlike: "a\\\\\\"}`, used, "scriptName_notlike ends in a")
	bad(hour+`, scriptName_in: [`+strings.Repeat(`"a",`, 200)+`]}`, used, "more than the 200 allowed")
	bad(`limit: 1, filter: {datetime_geq: "noon"}`, used, "noon")
	bad(hour+`}, orderBy: [datetime_ASC]`, used, "datetime is not among the dimensions")
	bad(hour+`}, orderBy: [datetimeMinute_ASC]`, `dimensions { datetimeHour }`, "datetimeMinute is not among")
	bad(hour+`}, orderBy: [sum_subrequests_DESC]`, used, "sum_subrequests_DESC")
	bad(hour+`}`, `dimensions { coloCode }`, `unknown field: Cannot query field "coloCode"`)
	bad(hour+`}`, `quantiles`, `object field must have selections`)
	bad(hour+`}`, `dimensions { status { x } }`, `scalar fields must have no selections`)
	f(http.StatusBadRequest, node(hour+`, scriptName: $x}`, used), "never used", map[string]any{})
	f(http.StatusBadRequest, strings.Replace(node(hour+`, scriptName_in: $n}`, used), "$x: String, ", "", 1), "must be a string", map[string]any{"n": []any{strings.Repeat("x", 200)}})
	f(http.StatusBadRequest, strings.Replace(node(hour+`, scriptName: $n}`, used), "$x: String, ", "", 1), `error parsing args: Variable "$n" of type "[String!]"`, map[string]any{"n": []any{"a"}})
	f(http.StatusBadRequest, `query ($f: AccountFilter_InputObject!) { viewer { accounts(filter: $f) { workersInvocationsAdaptive(limit: 1, filter: $f) { sum { requests } } } } }`, "AccountFilter_InputObject", map[string]any{"f": map[string]any{"accountTag": account}})
	f(http.StatusBadRequest, `{ viewer { accounts(filter: {accountTag: ""}) { accountTag } } }`, "accountTag", nil)
	f(http.StatusBadRequest, `query ($a: string) { viewer { accounts(filter: {accountTag: $a}) { accountTag } } }`, "accountTag", nil)
	var many strings.Builder
	for i := range 21 {
		fmt.Fprintf(&many, `n%d: workersInvocationsAdaptive(%s}) { sum { requests } } `, i, hour)
	}
	f(http.StatusBadRequest, fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { %s } } }`, account, &many), "queries too many nodes", nil)

	p.metrics.invocations = func(context.Context, schema.InvocationQuery) ([]schema.InvocationGroup, error) {
		return nil, errs.New(errs.Unavailable, 0, "it takes too long")
	}
	f(http.StatusServiceUnavailable, unused(node(hour+`}`, used)), "unable to execute query: it takes too long", nil)
	p.metrics.invocations = func(context.Context, schema.InvocationQuery) ([]schema.InvocationGroup, error) {
		return nil, errs.New(errs.Invalid, 0, "seconds are gone")
	}
	bad(hour+`}`, used, "cannot request data older than is kept: seconds are gone")
	got := p.graph(t, p.token, unused(node(hour+`}`, used)), nil)
	if !strings.Contains(got, `"path":["viewer","accounts","0","workersInvocationsAdaptive"]`) {
		t.Errorf("the error has another path: %s", got)
	}
}

func TestWhoMayAskForInvocations(t *testing.T) {
	p, asked := graphPlatform(t)
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	query := fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { workersInvocationsAdaptive(limit: 1, filter: {datetimeHour: "2026-01-31T12:00:00Z"}) { sum { requests } } } } }`, account)
	f := func(owner string, scope control.Scope, want string) {
		t.Helper()
		*asked = nil
		_, token, err := p.CreateToken(t.Context(), control.Token{AccountID: owner, Name: "t", Scopes: []control.Scope{scope}})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.graph(t, token, query, nil); !strings.Contains(got, want) || (len(*asked) > 0) != strings.HasPrefix(got, "200 ") {
			t.Errorf("%s of %s: %s, want %s; asked %d times", scope, owner, got, want, len(*asked))
		}
	}
	f(account, control.ScriptsRead, `200 `)
	f(account, control.ScriptsEdit, `200 `)
	f(account, control.Admin, `200 `)
	f(account, control.LogsRead, `does not have access to the path: this needs a token with the scope scripts:read`)
	f(account, control.PolicyEdit, `403 {"data":null`)
	f(other.ID, control.Admin, `403 {"data":null,"errors":[{"message":"not authorized for that account`)
}

const tooManyValues = "the answer would have too many values: lower limit, or ask for fewer fields"

// The text of a query is short beside what it asks for, of each of many groups.
func TestAnAnswerIsBounded(t *testing.T) {
	groups := make([]schema.InvocationGroup, 10_000)
	p, _ := graphPlatform(t, groups...)
	query := func(fields, more string) string {
		return fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { workersInvocationsAdaptive(limit: 10000, filter: {datetimeHour: "2026-01-31T12:00:00Z"}) { %s } } } } %s`, account, fields, more)
	}
	aliases := func(n int, of string) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "a%d: %s ", i, of)
		}
		return text.String()
	}
	refused := func(name, query string) {
		t.Helper()
		if got := p.graph(t, p.token, query, nil); !strings.HasPrefix(got, "400 ") || !strings.Contains(got, tooManyValues) {
			t.Errorf("%s: answered %.300s", name, got)
		}
	}
	refused("fragments of many fields", query(aliases(11, "dimensions { ...f }"), "fragment f on AccountWorkersInvocationsAdaptiveDimensions { "+aliases(421, "scriptName")+"}"))
	refused("names of types", query(aliases(300, "__typename"), ""))
	refused("what is skipped", query(aliases(110, "sum @skip(if: true) { requests }"), ""))
	all := query(`dimensions { scriptName scriptVersion status datetime date } sum { requests errors cpuTimeUs wallTime subrequests } avg { sampleInterval }
		quantiles { cpuTimeP25 cpuTimeP50 cpuTimeP75 cpuTimeP90 cpuTimeP95 cpuTimeP99 cpuTimeP999 wallTimeP25 wallTimeP50 wallTimeP75 wallTimeP90 wallTimeP95 wallTimeP99 wallTimeP999 }
		min { cpuTime wallTime } max { cpuTime wallTime }`, "")
	if got := p.graph(t, p.token, all, nil); !strings.HasPrefix(got, "200 ") {
		t.Errorf("10,000 groups with all of their fields: answered %.300s", got)
	}
}

// One value stands for a list of it.
func TestOrderWithoutBrackets(t *testing.T) {
	p, asked := graphPlatform(t)
	one, two := p.mustJob(t, "https://health.example.com"), p.mustJob(t, "https://health.example.com/2")
	for _, job := range []int64{one.ID, two.ID} {
		p.report(t, job, time.Now().UTC().Truncate(time.Minute))
	}
	f := func(node, want string) {
		t.Helper()
		query := fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { x: %s } } }`, account, node)
		if got := p.graph(t, p.token, query, nil); !strings.Contains(got, want) {
			t.Errorf("%s answered %s, want %s", query, got, want)
		}
	}
	f(`logpushHealthAdaptiveGroups(limit: 1, filter: {}, orderBy: jobId_DESC) { dimensions { jobId } }`, fmt.Sprintf(`"jobId":%d`, two.ID))
	f(`logpushHealthAdaptiveGroups(limit: 1, filter: {}, orderBy: jobId_ASC) { dimensions { jobId } }`, fmt.Sprintf(`"jobId":%d`, one.ID))
	f(`logpushHealthAdaptiveGroups(limit: 1, filter: {}, orderBy: null) { count }`, `"count"`)
	f(`workersInvocationsAdaptive(limit: 1, filter: {datetimeHour: "2026-01-31T12:00:00Z"}, orderBy: sum_errors_DESC) { sum { requests } }`, `200 `)
	if want := []schema.InvocationOrder{{By: schema.InvocationErrors, Descending: true}}; len(*asked) != 1 || !cmp.Equal((*asked)[0].Order, want) {
		t.Errorf("asked %+v, want the order %+v", *asked, want)
	}
}

// What a variable holds is not bounded by the text of the query, and empty filters are tried, too.
func TestFiltersAreBounded(t *testing.T) {
	p, asked := graphPlatform(t)
	repeated := func(n int, one any) []any {
		list := make([]any, n)
		for i := range list {
			list[i] = one
		}
		return list
	}
	nested := func(depth int) map[string]any {
		filter := map[string]any{}
		for range depth - 1 {
			filter = map[string]any{"OR": []any{filter}}
		}
		return filter
	}
	f := func(name, node, of string, filter map[string]any, want string) {
		t.Helper()
		query := fmt.Sprintf(`query ($f: %s!) { viewer { accounts(filter: {accountTag: %q}) { %s } } }`, of, account, node)
		if got := p.graph(t, p.token, query, map[string]any{"f": filter}); !strings.Contains(got, want) {
			t.Errorf("%s answered %.300s, want %q", name, got, want)
		}
	}
	invocations := func(name string, filter map[string]any, want string) {
		t.Helper()
		f(name, `workersInvocationsAdaptive(limit: 1, filter: {datetimeHour: "2026-01-31T12:00:00Z", AND: [$f]}) { sum { requests } }`, "AccountWorkersInvocationsAdaptiveFilter_InputObject", filter, want)
	}
	health := func(name string, filter map[string]any, want string) {
		t.Helper()
		f(name, `logpushHealthAdaptiveGroups(limit: 1, filter: $f) { count }`, "LogpushHealthFilter", filter, want)
	}
	const many = "more than the 200 allowed"
	invocations("201 empty filters", map[string]any{"AND": repeated(201, map[string]any{})}, many)
	invocations("201 empty lists", map[string]any{"OR": repeated(201, map[string]any{"scriptName_in": []any{}})}, many)
	invocations("deep filters", nested(20), "more than 20 filters in one another")
	if len(*asked) > 0 {
		t.Errorf("asked %+v", *asked)
	}
	invocations("19 filters", nested(19), "200 ")
	health("201 empty filters", map[string]any{"AND": repeated(201, map[string]any{})}, many)
	health("201 empty lists", map[string]any{"OR": repeated(201, map[string]any{"jobId_in": []any{}})}, many)
	health("deep filters", nested(21), "more than 20 filters in one another")
	health("20 filters", nested(20), "200 ")
	health("200 ids", map[string]any{"jobId_in": repeated(200, 1)}, "200 ")
}

func TestSchemaIsTold(t *testing.T) {
	p, _ := graphPlatform(t)
	f := func(query, want string) {
		t.Helper()
		if got := p.graph(t, p.token, query, nil); got != "200 "+want {
			t.Errorf("%s answered\n%s, want\n200 %s", query, got, want)
		}
	}
	f(`{ __type(name: "AccountWorkersInvocationsAdaptiveMax") { name kind fields { name description type { name kind ofType { name } } args { name } } } }`,
		`{"data":{"__type":{"fields":[{"args":[],"description":"Microseconds; null where nobody measured.","name":"cpuTime","type":{"kind":"SCALAR","name":"uint64","ofType":null}},`+
			`{"args":[],"description":"Microseconds; null where nobody measured.","name":"wallTime","type":{"kind":"SCALAR","name":"uint64","ofType":null}}],"kind":"OBJECT","name":"AccountWorkersInvocationsAdaptiveMax"}},"errors":null}`)
	f(`{ __type(name: "Nobody") { name } __typename }`, `{"data":{"__type":null,"__typename":"Query"},"errors":null}`)
	f(`{ __type(name: "AccountFilter_InputObject") { inputFields { name type { kind ofType { name } } defaultValue } interfaces { name } } }`,
		`{"data":{"__type":{"inputFields":[{"defaultValue":null,"name":"accountTag","type":{"kind":"NON_NULL","ofType":{"name":"string"}}}],"interfaces":null}},"errors":null}`)
	f(`{ __schema { queryType { name } mutationType { name } subscriptionType { name } directives { name locations args { name type { kind } } } } }`,
		`{"data":{"__schema":{"directives":[{"args":[{"name":"if","type":{"kind":"NON_NULL"}}],"locations":["FIELD","FRAGMENT_SPREAD","INLINE_FRAGMENT"],"name":"include"},`+
			`{"args":[{"name":"if","type":{"kind":"NON_NULL"}}],"locations":["FIELD","FRAGMENT_SPREAD","INLINE_FRAGMENT"],"name":"skip"}],"mutationType":null,"queryType":{"name":"Query"},"subscriptionType":null}},"errors":null}`)

	// What tools ask for first, in the words of the specification.
	whole := p.graph(t, p.token, `query IntrospectionQuery { __schema { queryType { name } types { ...whole } directives { name description locations args { ...value } } } }
		fragment whole on __Type { kind name description fields(includeDeprecated: true) { name description args { ...value } type { ...ref } isDeprecated deprecationReason }
			inputFields { ...value } interfaces { ...ref } enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...ref } }
		fragment value on __InputValue { name description type { ...ref } defaultValue }
		fragment ref on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }`, nil)
	for _, want := range []string{`200 {"data"`, `"AccountWorkersInvocationsAdaptiveFilter_InputObject"`, `"datetime_geq"`, `"sum_requests_DESC"`, `"cpuTimeP999"`, `"logpushHealthAdaptiveGroups"`} {
		if !strings.Contains(whole, want) {
			t.Errorf("the schema has no %s: %.300s", want, whole)
		}
	}
	// Types tell of types: a short query could ask for more than fits into memory.
	deep := `{ __schema { types { ...a } } } fragment a on __Type { fields { type { ofType { ofType { ofType { fields { type { ofType { name } } } } } } } } }`
	if got := p.graph(t, p.token, deep, nil); !strings.HasPrefix(got, "200 ") {
		t.Errorf("%s answered %.200s", deep, got)
	}
	if got := p.graph(t, p.token, `{ __schema { types { fields { type { fields { type { fields { name } } } } } } } }`, nil); !strings.Contains(got, "Maximum introspection depth exceeded") {
		t.Errorf("types in types answered %.200s", got)
	}
}

// TestGraphQLWithASlash: exporters post to an address that ends in one.
func TestGraphQLWithASlash(t *testing.T) {
	p, _ := graphPlatform(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/client/v4/graphql/", strings.NewReader(`{"query": "{ __typename }"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = bearer(p.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		t.Errorf("answered %d", res.StatusCode)
	}
}

// Variables may hold tens of thousands of names to order by. ClickHouse took seconds to understand 10,000,
// and 45,000 were an internal error; logpush health compared its groups by all of them.
func TestNamesToOrderByCountOnce(t *testing.T) {
	p, asked := graphPlatform(t)
	names := []string{"scriptName_ASC", "sum_requests_DESC"}
	for range 10_000 {
		names = append(names, "scriptName_ASC", "scriptName_DESC", "sum_requests_ASC")
	}
	got := p.graph(t, p.token, `query ($o: [AccountWorkersInvocationsAdaptiveOrderBy!]) { viewer { accounts(filter: {accountTag: "`+account+`"}) {
		workersInvocationsAdaptive(limit: 1, filter: {datetime_geq: "`+time.Now().Add(-time.Hour).Format(time.RFC3339)+`"}, orderBy: $o) { dimensions { scriptName } } } } }`, map[string]any{"o": names})
	want := []schema.InvocationOrder{{By: schema.InvocationScript}, {By: schema.InvocationRequests, Descending: true}}
	if len(*asked) != 1 {
		t.Fatal(got)
	}
	if diff := cmp.Diff(want, (*asked)[0].Order); diff != "" {
		t.Errorf("%s asked for an order of %d names (-want +got)\n%.2000s", got, len((*asked)[0].Order), diff)
	}
}
