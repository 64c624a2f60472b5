package api

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/gqlerror"

	"tidegate/internal/errs"
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

// FuzzGraph: whatever is sent is answered, or refused in words for the caller, and no more
// is asked of ClickHouse than is allowed.
func FuzzGraph(f *testing.F) {
	const node = `viewer { accounts(filter: {accountTag: "` + fuzzedAccount + `"}) { workersInvocationsAdaptive(`
	f.Add(`query ($s: Time!, $f: AccountWorkersInvocationsAdaptiveFilter_InputObject) { `+node+`limit: 5, filter: {datetime_geq: $s, AND: [$f]}, orderBy: date_ASC) { dimensions { date scriptName } sum { requests wallTime } quantiles { cpuTimeP999 } } } } }`,
		`{"s": "2026-11-27T00:00:00Z", "f": {"OR": [{"status_notin": ["a"]}, {"scriptName_like": "x%"}]}}`)
	f.Add(`{ __schema { types { name fields { type { ofType { name } } } } } }`, `{}`)
	f.Add(`{ `+node+`limit: 1e9, filter: {date: "2026-11-26", scriptName_in: [{}]}) { ...a } } } } fragment a on AccountWorkersInvocationsAdaptive { max { cpuTime @skip(if: false) } }`, `null`)
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, query, variables string) {
		if len(query)+len(variables) > 1<<14 {
			return
		}
		s := &Server{now: func() time.Time { return now }, deps: Deps{Metrics: askedInvocations{t: t}}, stopping: t.Context(),
			questions: newTurns(questionsMax, accountQuestionsMax, time.Second, "busy")}
		token := control.Token{AccountID: fuzzedAccount, Scopes: []control.Scope{control.ScriptsRead}}
		r := &request{ctx: t.Context(), server: s, caller: caller{token: token, rights: token.Rights()}}
		data, err := r.query(graphBody{Query: query, Variables: json.RawMessage(variables)})
		if err != nil {
			if _, ok := errors.AsType[gqlerror.List](err); !ok && errs.KindOf(err) == errs.Internal {
				t.Errorf("%q with %q is a fault: %v", query, variables, err)
			}
			return
		}
		if _, err := json.Marshal(data); err != nil {
			t.Errorf("the answer to %q cannot be sent: %v", query, err)
		}
	})
}
