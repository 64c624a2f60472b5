-- A block whose sender slept over it is refused: by then somebody else may have stored
-- it, so long ago that its token is forgotten. inserted_at is when the sender knew that
-- the partition was its own, by this server's clock. trace_events_others keeps nothing
-- and can have no constraint, so there it is the default of a column that throws.
--
-- 30 s leave room for a slow server: the age is looked at when an insert begins. In 30 s
-- no table forgets a block; internal/clickhouse/layout.go has the arithmetic.
{{range fenced}}
ALTER TABLE {{local .}}{{onCluster}} ADD CONSTRAINT IF NOT EXISTS inserted_in_time
    CHECK inserted_at BETWEEN now64(3) - INTERVAL 30 SECOND AND now64(3) + INTERVAL 5 SECOND;
{{end}}
{{range spread "trace_events_others"}}
ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS inserted_at DateTime64(3, 'UTC') DEFAULT now64(3);
{{end}}
-- The face has no such column: with one it would look at the time itself, and the shard,
-- which it may reach late, would not.
ALTER TABLE {{local "trace_events_others"}}{{onCluster}} ADD COLUMN IF NOT EXISTS in_time UInt8 DEFAULT throwIf(inserted_at NOT BETWEEN now64(3) - INTERVAL 30 SECOND AND now64(3) + INTERVAL 5 SECOND, 'inserted_in_time: the block came too late, or clocks differ');
{{range remembering}}
ALTER TABLE {{local .}}{{onCluster}} MODIFY SETTING {{deduplication}};
{{end}}
