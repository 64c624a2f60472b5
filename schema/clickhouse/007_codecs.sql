-- Codecs chosen by what bench/storage measured; the figures are in docs/benchmarks.md.
-- Parts from before get them when they are merged. Types stay as they are, because a
-- change of type would write whole columns anew.
--
-- LowCardinality columns had the server's default, LZ4. T64 cuts the bits that small
-- numbers do not need. A level above 1 is for few bytes only: rollups have a fraction of
-- the rows, and for the JSON of an event level 3 was even larger than 1.
ALTER TABLE {{local "trace_events"}}{{onCluster}}
    MODIFY COLUMN account_id CODEC(ZSTD(1)),
    MODIFY COLUMN script_name CODEC(ZSTD(1)),
    MODIFY COLUMN version_id CODEC(ZSTD(1)),
    MODIFY COLUMN version_tag CODEC(ZSTD(1)),
    MODIFY COLUMN version_message CODEC(ZSTD(1)),
    MODIFY COLUMN event_type CODEC(ZSTD(1)),
    MODIFY COLUMN outcome CODEC(ZSTD(1)),
    MODIFY COLUMN decision CODEC(ZSTD(1)),
    MODIFY COLUMN error_kind CODEC(ZSTD(1)),
    MODIFY COLUMN method CODEC(ZSTD(1)),
    MODIFY COLUMN entrypoint CODEC(ZSTD(1)),
    MODIFY COLUMN dispatch_namespace CODEC(ZSTD(1)),
    MODIFY COLUMN logpush CODEC(ZSTD(1)),
    MODIFY COLUMN wall_ms CODEC(T64, ZSTD(1)),
    MODIFY COLUMN kafka_partition CODEC(T64, ZSTD(1)),
    MODIFY COLUMN inserted_at CODEC(ZSTD(1)),
    MODIFY COLUMN event CODEC(ZSTD(1));
{{range rollups}}
ALTER TABLE {{local .Table}}{{onCluster}}
    MODIFY COLUMN account_id CODEC(ZSTD(1)),
    MODIFY COLUMN script_name CODEC(ZSTD(1)),
    MODIFY COLUMN version_id CODEC(ZSTD(1)),
    MODIFY COLUMN time CODEC(DoubleDelta, ZSTD(1)),
    MODIFY COLUMN requests CODEC(T64, ZSTD(1)),
    MODIFY COLUMN failures CODEC(T64, ZSTD(1)),
    MODIFY COLUMN assigned CODEC(T64, ZSTD(1)),
    MODIFY COLUMN assigned_failures CODEC(T64, ZSTD(1)),
    MODIFY COLUMN exceptions CODEC(T64, ZSTD(1)),
    MODIFY COLUMN status_2xx CODEC(T64, ZSTD(1)),
    MODIFY COLUMN status_3xx CODEC(T64, ZSTD(1)),
    MODIFY COLUMN status_4xx CODEC(T64, ZSTD(1)),
    MODIFY COLUMN status_5xx CODEC(T64, ZSTD(1)),
    MODIFY COLUMN wall_measured CODEC(T64, ZSTD(1)),
    MODIFY COLUMN cpu_measured CODEC(T64, ZSTD(1)),
    MODIFY COLUMN outcomes CODEC(ZSTD(3)),
    MODIFY COLUMN wall_ms CODEC(ZSTD(6)),
    MODIFY COLUMN cpu_ms CODEC(ZSTD(6));
{{end}}
