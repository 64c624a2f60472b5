package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"tidegate/internal/deploy"
)

// busy is a script whose pages are measured: an hour of many requests, of four versions.
const (
	busy             = "busy"
	busyVersions     = 4
	busyEvents       = 1_000_000
	busyMilliseconds = 65 * 60 * 1000
	noPartition      = 1_000_000 // the topic has none of this number, so that ingest never meets these records
)

// lookBusy writes the events of a script straight into ClickHouse, whose rollups follow.
func (w *world) lookBusy(ctx context.Context) error {
	var ids []string
	for n := range busyVersions {
		id, err := w.p.UploadOrigin(ctx, busy, w.origin.URL, fmt.Sprintf("v%d", n+1), "")
		if err != nil {
			return err
		}
		ids = append(ids, "'"+id+"'")
	}
	first := strings.Trim(ids[0], "'")
	if _, err := w.p.Deploy(ctx, busy, deploy.Split{VersionID: first, Percentage: deploy.Full}); err != nil {
		return err
	}
	// The later a version, the more it fails and the slower it is.
	return w.clickhouse(ctx, fmt.Sprintf(`
		INSERT INTO trace_events (account_id, script_name, time, version_id, version_tag, event_type, outcome, status, wall_ms, upstream_ms,
			decision, ray_id, method, url, script_tags, event, exceptions, logs, kafka_partition, kafka_offset)
		SELECT '%s', '%s', now64(3) - toIntervalMillisecond(intDiv(number * %d, %d)), [%s][n] AS version, concat('v', toString(n)), 'fetch',
			if(rand(1) %% 1000 < n * 6, 'exception', 'ok') AS result, if(result = 'ok', if(rand(2) %% 20 = 0, 404, 200), 500), 5 + rand(3) %% 60 + n * 3, 4 + rand(3) %% 60,
			'split', lower(hex(rand64(5))), 'GET', 'http://busy.dev.localhost/basket', '[]', '{}', '[]', '[]', %d, number
		FROM (SELECT number, 1 + rand(9) %% %d AS n FROM numbers(%d))`,
		w.p.AccountID, busy, busyMilliseconds, busyEvents, strings.Join(ids, ", "), noPartition, busyVersions, busyEvents))
}

func (w *world) clickhouse(ctx context.Context, query string) error {
	address := w.p.Ready.ClickHouse + "/?" + url.Values{"database": {"tidegate"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(query))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("clickhouse answered %s to: %s", answer.Status, query)
	}
	return nil
}
