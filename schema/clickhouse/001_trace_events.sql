-- One row per event. "time" is the event's own, unless its clock was far from
-- the record's; then it is the record's, and skew_ms says by how much the event
-- was off (EventTimestampMs = time + skew_ms). Days are the partitions, so one
-- block spans few of them and TTL drops whole parts.
--
-- status and upstream_ms: 0 and NULL say that there was no response. wall_ms
-- and cpu_ms are NULL where nobody measured. event, exceptions, logs and script_tags are JSON.
CREATE TABLE IF NOT EXISTS {{local "trace_events"}}{{onCluster}}
(
    account_id         LowCardinality(String),
    script_name        LowCardinality(String),
    time               DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    skew_ms            Int64 CODEC(ZSTD(1)),
    version_id         LowCardinality(String),
    version_tag        LowCardinality(String),
    version_message    LowCardinality(String),
    event_type         LowCardinality(String),
    outcome            LowCardinality(String),
    status             UInt16 CODEC(ZSTD(1)),
    wall_ms            Nullable(Int64) CODEC(ZSTD(1)),
    cpu_ms             Nullable(Int64) CODEC(ZSTD(1)),
    upstream_ms        Nullable(Float64) CODEC(ZSTD(1)),
    decision           LowCardinality(String),
    ray_id             String CODEC(ZSTD(1)),
    error_kind         LowCardinality(String),
    method             LowCardinality(String),
    url                String CODEC(ZSTD(1)),
    entrypoint         LowCardinality(String),
    dispatch_namespace LowCardinality(String),
    script_tags        String CODEC(ZSTD(1)),
    event              String CODEC(ZSTD(3)),
    exceptions         String CODEC(ZSTD(3)),
    logs               String CODEC(ZSTD(3)),
    kafka_partition    Int32 CODEC(ZSTD(1)),
    kafka_offset       Int64 CODEC(Delta, ZSTD(1)),
    inserted_at        DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = {{engine "MergeTree"}}
PARTITION BY toDate(time)
ORDER BY (account_id, script_name, time)
SETTINGS {{deduplication}}, ttl_only_drop_parts = 1;

{{face "trace_events" "cityHash64(account_id, script_name)"}}
