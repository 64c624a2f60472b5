package api

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/gqlerror"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
	"tidegate/schema/control"
)

// askedInvocations fails for a question that ClickHouse must not be asked.
type askedInvocations struct {
	Metrics
	t *testing.T
}

func (m askedInvocations) Invocations(_ context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error) {
	if q.AccountID != fuzzedAccount || !q.Since.Before(q.Until) || q.Until.Sub(q.Since) > metricsRangeMax+invocationsRangeSlack || q.Limit < 1 || q.Limit > graphLimitMax || len(q.By) > 4 {
		m.t.Errorf("asked %+v", q)
	}
	if conditions := countInvocationConditions(q.Where); conditions > graphConditionsMax {
		m.t.Errorf("asked with %d conditions", conditions)
	}
	group := schema.InvocationGroup{Requests: 3, Stored: new(int64(0)), WallMs: schema.InvocationTimes{Sum: new(1e300)}}
	return []schema.InvocationGroup{group}, nil
}

func countInvocationConditions(c schema.InvocationCondition) int {
	n := len(c.Values)
	for _, list := range [][]schema.InvocationCondition{c.All, c.Any} {
		for _, one := range list {
			n += countInvocationConditions(one)
		}
	}
	return n
}

const fuzzedAccount = "00000000000000000000000000000001"

// askedHealth has some minutes of two jobs, and fails for others' and for more than there may be.
type askedHealth struct {
	Health
	t *testing.T
}

func (h askedHealth) HealthMinutes(_ context.Context, f logjob.HealthFilter) ([]logjob.MinuteHealth, error) {
	if f.AccountID != fuzzedAccount || f.Most != graphMinutesMax || f.Until.Sub(f.Since) > graphRange+time.Hour {
		h.t.Errorf("asked %+v", f)
	}
	minute := time.Date(2026, 11, 27, 11, 59, 0, 0, time.UTC)
	return []logjob.MinuteHealth{
		{JobID: 1, Minute: minute, Status: 200, Final: true, DestinationType: "s3", Destination: "s3://b", Uploads: logjob.Uploads{Uploads: 2, Records: 3}},
		{JobID: 2, Minute: minute, Status: 503, DestinationType: "https"},
	}, nil
}

// listed puts each value of a variable into a list, as GraphQL takes the value for one.
func listed(given map[string]any) map[string]any {
	all := map[string]any{}
	for name, value := range given {
		if _, isList := value.([]any); !isList && value != nil {
			value = []any{value}
		}
		all[name] = value
	}
	return all
}

// FuzzGraph: whatever is sent is answered, or refused in words for the caller, and no more
// is asked of ClickHouse and of the store than is allowed. What is answered is answered
// alike where a list of one is in the place of a single value that stands for it.
func FuzzGraph(f *testing.F) {
	const node = `viewer { accounts(filter: {accountTag: "` + fuzzedAccount + `"}) { workersInvocationsAdaptive(`
	f.Add(`query ($s: Time!, $f: AccountWorkersInvocationsAdaptiveFilter_InputObject) { `+node+`limit: 5, filter: {datetime_geq: $s, AND: [$f]}, orderBy: date_ASC) { dimensions { date scriptName } sum { requests wallTime } quantiles { cpuTimeP999 } } } } }`,
		`{"s": "2026-11-27T00:00:00Z", "f": {"OR": [{"status_notin": ["a"]}, {"scriptName_like": "x%"}]}}`)
	f.Add(`{ __schema { types { name fields { type { ofType { name } } } } } }`, `{}`)
	const health = `viewer { accounts(filter: {accountTag: "` + fuzzedAccount + `"}) { logpushHealthAdaptiveGroups(`
	f.Add(`query ($o: [LogpushHealthOrderBy!], $j: [Int!], $a: [LogpushHealthFilter!]) { `+health+`limit: 5, filter: {jobId_in: $j, AND: $a}, orderBy: $o) { count dimensions { jobId datetime } sum { bytesCompressed } } } } }`,
		`{"o": "jobId_DESC", "j": 1, "a": {"OR": {"status_in": 200}}}`)
	f.Add(`query ($s: [string!]) { `+node+`limit: 5, filter: {datetimeHour: "2026-11-26T12:00:00Z", scriptName_in: $s}) { sum { requests } } } } }`, `{"s": "shop"}`)
	f.Add(`{ `+node+`limit: 1e9, filter: {date: "2026-11-26", scriptName_in: [{}]}) { ...a } } } } fragment a on AccountWorkersInvocationsAdaptive { max { cpuTime @skip(if: false) } }`, `null`)
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query, variables string) {
		if len(query)+len(variables) > 1<<14 {
			return
		}
		s := &Server{now: func() time.Time { return now }, deps: Deps{Metrics: askedInvocations{t: t}, Health: askedHealth{t: t}}, stopping: t.Context(),
			questions: newTurns(questionsMax, accountQuestionsMax, time.Second, "busy")}
		token := control.Token{AccountID: fuzzedAccount, Scopes: []control.Scope{control.ScriptsRead, control.LogsRead}}
		r := &request{ctx: t.Context(), server: s, caller: caller{token: token, rights: token.Rights()}}
		data, err := r.query(graphBody{Query: query, Variables: json.RawMessage(variables)})
		if err != nil {
			if _, ok := errors.AsType[gqlerror.List](err); !ok && errs.KindOf(err) == errs.Internal {
				t.Errorf("%q with %q is a fault: %v", query, variables, err)
			}
			return
		}
		answer, err := json.Marshal(data)
		if err != nil {
			t.Errorf("the answer to %q cannot be sent: %v", query, err)
		}
		var given map[string]any
		if json.Unmarshal([]byte(variables), &given) != nil {
			return
		}
		lists, err := json.Marshal(listed(given))
		if err != nil {
			t.Fatal(err)
		}
		data, err = r.query(graphBody{Query: query, Variables: lists})
		if again, errMarshal := json.Marshal(data); err == nil && string(again) != string(answer) {
			t.Errorf("%q with %s is answered %s, and with %s %s, %v", query, variables, answer, lists, again, errMarshal)
		}
	})
}
