package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
)

// What one question of a person may cost the server, whatever is asked. The embedded
// engine has a gigabyte for everything.
const (
	questionTime   = 10 * time.Second
	questionMemory = 400 << 20 // bytes
	questionRows   = 100_000   // of an answer
)

// tooManyRows is how ClickHouse calls an answer of more than max_result_rows rows.
const tooManyRows = 396 // TOO_MANY_ROWS_OR_BYTES

// bounded returns ctx with the bounds of a question, and further settings. It ends a little later than the
// server gives the question up, so that the server's reason is the one that is told.
func bounded(ctx context.Context, more ...ch.Settings) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, questionTime+2*time.Second)
	settings := ch.Settings{
		"max_execution_time": int(questionTime.Seconds()),
		"max_memory_usage":   questionMemory,
		"max_result_rows":    questionRows,
		// A server that is asked over HTTP would work on for a client that has left.
		"cancel_http_readonly_queries_on_client_close": 1,
	}
	for _, m := range more {
		maps.Copy(settings, m)
	}
	return ch.Context(ctx, ch.WithSettings(settings)), cancel
}

// tooMuch is failed, with a sentence for the bounds of a question.
func tooMuch(attempt string, err error) error {
	refusal, ok := errors.AsType[*ch.Exception](err)
	if !ok {
		return failed(attempt, err)
	}
	var why string
	switch refusal.Code {
	case 159: // TIMEOUT_EXCEEDED
		why = fmt.Sprintf("took longer than the %d s that a question may take", int(questionTime.Seconds()))
	case 241: // MEMORY_LIMIT_EXCEEDED
		why = "needs more memory than a question may take, or than is free now"
	case tooManyRows:
		why = fmt.Sprintf("has more than %d rows", questionRows)
	default:
		return failed(attempt, err)
	}
	return fmt.Errorf("%s: %w: %w", attempt, errs.New(errs.Unavailable, 0, "to %s %s: ask about less time, or with narrower filters", attempt, why), err)
}
