package clickhouse

import (
	"slices"
	"testing"
	"time"

	"tidegate/schema"
)

func TestCallsByPairsOfVersions(t *testing.T) {
	db := migrated(t)
	call := func(d time.Duration, caller, version, callee, calleeVersion string) row {
		r := served(d)
		r.callerScript, r.callerVersion, r.script, r.version = caller, version, callee, calleeVersion
		return r
	}
	failed := func(r row) row { r.status = 503; return r }
	thrown := call(time.Second, "front", v1, "stock", v2)
	thrown.outcome = "exception"
	canceled := call(time.Second, "front", v1, "stock", v2)
	canceled.outcome, canceled.status = "canceled", 0
	rpc := call(2*time.Second, "", "", "stock", v1)
	rpc.eventType, rpc.status, rpc.outcome = schema.EventTypeRPC, 0, "exception"
	elsewhere := call(0, "front", v1, "stock", v2)
	elsewhere.account = "00000000000000000000000000000002"
	insert(t, db, "calls",
		call(0, "front", v1, "stock", v1), standsFor(4, call(0, "front", v1, "stock", v1)), // 5
		thrown, canceled, failed(call(3*time.Second, "front", v1, "stock", v2)), // 3, of which 2 failed
		call(0, "front", v2, "stock", v2), call(time.Second, "front", v2, "stock", v2), // 2
		call(0, "stock", v1, "mail", v1), // 1
		rpc, elsewhere,
		served(0), served(time.Hour), // by clients
		call(time.Hour, "front", v1, "stock", v1)) // too late
	pair := func(caller, version, callee, calleeVersion string, requests, failures int64, last time.Duration) schema.CallPair {
		return schema.CallPair{CallerScript: caller, CallerVersionID: version, CalleeScript: callee, CalleeVersionID: calleeVersion, CalleeTag: "tag",
			Requests: requests, Failures: failures, LastSeen: noon.Add(last)}
	}
	all := []schema.CallPair{
		pair("front", v1, "stock", v1, 5, 0, 0), pair("front", v1, "stock", v2, 3, 2, 3*time.Second), pair("front", v2, "stock", v2, 2, 0, time.Second),
		pair("", "", "stock", v1, 1, 1, 2*time.Second), pair("stock", v1, "mail", v1, 1, 0, 0),
	}
	f := func(q schema.CallQuery, total int, want ...schema.CallPair) {
		t.Helper()
		q.AccountID, q.Since, q.Until = account, noon, noon.Add(time.Minute)
		if q.Limit == 0 {
			q.Limit = 100
		}
		list, n, err := db.Calls(t.Context(), q)
		if err != nil || n != total || !slices.Equal(list, want) {
			t.Errorf("%+v: %d pairs, error %v\n%+v\nwant %d\n%+v", q, n, err, list, total, want)
		}
	}
	f(schema.CallQuery{}, 5, all...)
	f(schema.CallQuery{Limit: 2}, 5, all[:2]...)
	f(schema.CallQuery{Caller: "front"}, 3, all[:3]...)
	f(schema.CallQuery{Callee: "stock"}, 4, all[:4]...)
	f(schema.CallQuery{Caller: "stock", Callee: "mail"}, 1, all[4])
	f(schema.CallQuery{Caller: "mail"}, 0)
}
