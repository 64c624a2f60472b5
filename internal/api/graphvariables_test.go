package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The library takes more in variables than the types of arguments say.
func TestVariablesOfOtherTypes(t *testing.T) {
	p, asked := graphPlatform(t)
	job := p.mustJob(t, "https://health.example.com")
	p.report(t, job.ID, time.Now().UTC().Truncate(time.Minute))
	f := func(kind, arguments string, value any, want string) {
		t.Helper()
		for _, node := range []string{"logpushHealthAdaptiveGroups", "workersInvocationsAdaptive"} {
			prefix := map[string]string{"logpushHealthAdaptiveGroups": "LogpushHealth", "workersInvocationsAdaptive": "AccountWorkersInvocationsAdaptive"}[node]
			declared, times := strings.ReplaceAll(kind, "TYPE", prefix), ""
			if node == "logpushHealthAdaptiveGroups" {
				declared = strings.ReplaceAll(declared, "_InputObject", "")
			} else {
				times = `datetimeHour: "2026-01-31T12:00:00Z" `
			}
			*asked = nil
			query := fmt.Sprintf(`query ($v: %s) { viewer { accounts(filter: {accountTag: %q}) { %s(limit: 10, %s) { sum { x: __typename } } } } }`, declared, account, node, strings.Replace(arguments, "{", "{"+times, 1))
			if got := p.graph(t, p.token, query, map[string]any{"v": value}); !strings.Contains(got, want) || len(*asked) > 0 && !strings.HasPrefix(got, "200 ") {
				t.Errorf("%s with %v answered %.300s, want %q", query, value, got, want)
			}
		}
	}
	const order, ofType, notList = `filter: {}, orderBy: $v`, `used in position expecting type`, "must be one value"
	f(`[[TYPEOrderBy!]!]`, order, []any{[]any{"sum_errors_DESC"}}, ofType)
	f(`[TYPEOrderBy]`, order, []any{nil}, ofType)
	f(`[TYPEFilter_InputObject]`, `filter: {OR: $v}`, []any{nil}, ofType)
	f(`[[TYPEFilter_InputObject!]!]`, `filter: {OR: $v}`, []any{[]any{}}, ofType)
	f(`TYPEFilter_InputObject`, `filter: {OR: [$v]}`, nil, `OR`)
	f(`[String!]`, `filter: {datetime_geq: $v}`, []any{"2026-01-31T12:00:00Z"}, ofType)
	f(`string`, `filter: {datetime_geq: $v}`, []any{"2026-01-31T12:00:00Z"}, `"data":null`)
	f(`[TYPEOrderBy!]`, order, []any{"datetime_asc"}, "there is no order \\\"datetime_asc\\\"")
	f(`TYPEOrderBy`, order, "datetime_Desc", "there is no order")

	one := func(node, filter string, value any, want string) {
		t.Helper()
		query := fmt.Sprintf(`query ($v: string) { viewer { accounts(filter: {accountTag: %q}) { %s(limit: 10, filter: {%s}) { sum { x: __typename } } } } }`, account, node, filter)
		if got := p.graph(t, p.token, query, map[string]any{"v": value}); !strings.Contains(got, want) {
			t.Errorf("%s with %v answered %.300s, want %q", query, value, got, want)
		}
	}
	for _, list := range [][]any{{}, {"a", "b"}} {
		one("logpushHealthAdaptiveGroups", "destinationType: $v", list, notList)
		one("workersInvocationsAdaptive", `datetimeHour: "2026-01-31T12:00:00Z", scriptName: $v`, list, notList)
		one("workersInvocationsAdaptive", `datetimeHour: "2026-01-31T12:00:00Z", status_notlike: $v`, list, notList)
	}
	one("logpushHealthAdaptiveGroups", "destinationType: $v", map[string]any{}, "it must be a string")
}

// One value in a variable stands for a list of it, too. The library makes it a list of the
// value's own type, which was no list to us.
func TestVariablesWithoutBrackets(t *testing.T) {
	p, asked := graphPlatform(t)
	one, two := p.mustJob(t, "https://health.example.com"), p.mustJob(t, "https://health.example.com/2")
	for _, job := range []int64{one.ID, two.ID} {
		p.report(t, job, time.Now().UTC().Truncate(time.Minute))
	}
	f := func(kind, node string, value any, want string) {
		t.Helper()
		*asked = nil
		query := fmt.Sprintf(`query ($v: %s) { viewer { accounts(filter: {accountTag: %q}) { x: %s } } }`, kind, account, node)
		if got := p.graph(t, p.token, query, map[string]any{"v": value}); !strings.Contains(got, want) {
			t.Errorf("%s with %v answered %.300s, want %s", query, value, got, want)
		}
	}
	first, second := fmt.Sprintf(`"x":[{"dimensions":{"jobId":%d}}]`, one.ID), fmt.Sprintf(`"x":[{"dimensions":{"jobId":%d}}]`, two.ID)
	const health = `logpushHealthAdaptiveGroups(limit: 1, %s) { dimensions { jobId } }`
	f("[LogpushHealthOrderBy!]", fmt.Sprintf(health, "filter: {}, orderBy: $v"), "jobId_DESC", second)
	f("[Int!]", fmt.Sprintf(health, "filter: {jobId_in: $v}"), two.ID, second)
	f("[LogpushHealthFilter!]", fmt.Sprintf(health, "filter: {AND: $v}"), map[string]any{"jobId": one.ID}, first)
	f("LogpushHealthFilter!", fmt.Sprintf(health, "filter: $v"), map[string]any{"OR": map[string]any{"AND": map[string]any{"jobId_in": two.ID}}}, second)

	const invocations = `workersInvocationsAdaptive(limit: 1, filter: {datetimeHour: "2026-01-31T12:00:00Z", %s}) { sum { requests } }`
	for kind, arguments := range map[string]string{"[string!]": "scriptName_in: $v", "[AccountWorkersInvocationsAdaptiveFilter_InputObject!]": "OR: $v"} {
		value := any("shop")
		if strings.Contains(arguments, "OR") {
			value = map[string]any{"scriptName_in": "shop"}
		}
		f(kind, fmt.Sprintf(invocations, arguments), value, "200 ")
		if len(*asked) != 1 || !strings.Contains(fmt.Sprintf("%+v", (*asked)[0].Where), "shop") {
			t.Errorf("%s asked %+v", arguments, *asked)
		}
	}
}
