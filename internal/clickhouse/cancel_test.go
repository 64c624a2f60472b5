package clickhouse

import (
	"context"
	"errors"
	"testing"
	"time"

	"tidegate/schema"
)

// TestAQuestionEndsWithItsCaller: somebody closes a dashboard whose question takes long, and
// opens it again. The server must not work on for those who have left.
func TestAQuestionEndsWithItsCaller(t *testing.T) {
	db := migrated(t)
	insert(t, db, "one", served(0))
	// Reading an event takes for ever from now on, until the bound of a question ends it.
	for _, statement := range []string{
		"RENAME TABLE trace_events TO stored_events",
		"CREATE VIEW trace_events AS SELECT s.*, ['a'] AS exception_groups FROM stored_events AS s CROSS JOIN numbers(1000000000000) AS n WHERE sipHash64(n.number) = 7",
	} {
		if err := db.conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	running := func() bool {
		return scalar(t, db, "SELECT count() FROM system.processes WHERE current_database = '"+db.cfg.Database+"' AND query LIKE '%trace_events%' AND query NOT LIKE '%system.processes%'") != "0"
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		// Half of what the question may take: it has not ended by itself.
		for deadline := time.Now().Add(questionTime / 2); !holds(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not after %s", what, questionTime/2)
			}
		}
	}
	since, end := noon.Add(-time.Hour), noon.Add(time.Hour)
	for name, ask := range map[string]func(context.Context) error{
		"events": func(ctx context.Context) error {
			_, err := db.Events(ctx, schema.EventFilter{AccountID: account, Script: script, Since: since, Until: end}, schema.EventPosition{}, 10)
			return err
		},
		"exceptions": func(ctx context.Context) error {
			_, _, err := db.Exceptions(ctx, schema.ExceptionQuery{AccountID: account, Script: script, Since: since, Until: end, Limit: 10})
			return err
		},
		"ray": func(ctx context.Context) error {
			_, err := db.EventsOfRay(ctx, account, "0000000000000000")
			return err
		},
		"invocations": func(ctx context.Context) error {
			_, err := db.Invocations(ctx, schema.InvocationQuery{AccountID: account, Since: since, Until: end, Limit: 10, Extremes: true})
			return err
		},
	} {
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- ask(ctx) }()
		until(name+" is being answered", func() bool {
			select {
			case err := <-ended:
				t.Fatalf("%s ended by itself: %v", name, err)
			default:
			}
			return running()
		})
		leave()
		until(name+" returns", func() bool {
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s ends with %v", name, err)
				}
				return true
			default:
				return false
			}
		})
		until("the server has given "+name+" up", func() bool { return !running() })
	}
}
