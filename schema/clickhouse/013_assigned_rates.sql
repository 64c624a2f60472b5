-- What a rollback is decided by, of each version and second: requests whose version was
-- drawn, and nothing else (schema.RateBlock). wall and cpu count those whose time was
-- measured, by schema.DurationBucket.
--
-- It is a table of its own, because its rows come from one view: a block is in all
-- columns of a row or in none. Beside the columns of version_rates_1s a reader could see
-- requests without their times, and a merge would write the sketches of that table once
-- more for each block. Seconds from before are only in version_rates_1s (RateBlocks).
--
-- The inner query counts by bucket, so that sumMap, which costs a microsecond for each
-- row, has few of them.
{{with assigned}}
CREATE TABLE IF NOT EXISTS {{local .Table}}{{onCluster}}
(
    account_id  LowCardinality(String) CODEC(ZSTD(1)),
    script_name LowCardinality(String) CODEC(ZSTD(1)),
    version_id  LowCardinality(String) CODEC(ZSTD(1)),
    time        DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    requests    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    failures    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    exceptions  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    status_5xx  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sampled_out SimpleAggregateFunction(max, UInt64) CODEC(T64, ZSTD(1)),
    wall        SimpleAggregateFunction(sumMap, Map(UInt16, UInt64)) CODEC(ZSTD(3)),
    cpu         SimpleAggregateFunction(sumMap, Map(UInt16, UInt64)) CODEC(ZSTD(3))
)
ENGINE = {{engine "AggregatingMergeTree"}}
PARTITION BY {{.PartitionBy}}
ORDER BY (account_id, script_name, time, version_id)
SETTINGS index_granularity = 1024, {{deduplication}}, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

{{face .Table "cityHash64(account_id, script_name)"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS {{.Table}}_view{{onCluster}} TO {{local .Table}} AS
SELECT
    account_id,
    script_name,
    version_id,
    second AS time,
    sum(n) AS requests,
    sum(n_failed) AS failures,
    sum(n_threw) AS exceptions,
    sum(n_5xx) AS status_5xx,
    sumMapIf(map(wall_bucket, n), wall_known) AS wall,
    sumMapIf(map(cpu_bucket, n), cpu_known) AS cpu
FROM
(
    SELECT
        account_id, script_name, version_id, {{.Bucket}} AS second, wall_known, wall_bucket, cpu_known, cpu_bucket,
        count() AS n,
        countIf(threw OR status >= 500) AS n_failed,
        countIf(threw) AS n_threw,
        countIf(status >= 500) AS n_5xx
    FROM
    (
        SELECT
            account_id, script_name, version_id, time AS at, status,
            outcome NOT IN ('ok', 'canceled') AS threw,
            isNotNull(wall_ms) AS wall_known,
            isNotNull(cpu_ms) AS cpu_known,
            {{bucketOf "ifNull(wall_ms, 0)"}} AS wall_bucket,
            {{bucketOf "ifNull(cpu_ms, 0)"}} AS cpu_bucket
        FROM {{local "trace_events"}}
        WHERE {{.Of}}
    )
    GROUP BY account_id, script_name, version_id, second, wall_known, wall_bucket, cpu_known, cpu_bucket
)
GROUP BY account_id, script_name, version_id, time;

CREATE MATERIALIZED VIEW IF NOT EXISTS {{.Table}}_others_view{{onCluster}} TO {{local .Table}} AS
SELECT
    account_id,
    script_name,
    version_id,
    {{.Bucket}} AS time,
    sum(others) AS requests,
    sumIf(others, threw OR status >= 500) AS failures,
    sumIf(others, threw) AS exceptions,
    sumIf(others, status >= 500) AS status_5xx,
    max(others) AS sampled_out,
    sumMapIf(map(wall_bucket, others), wall_known) AS wall,
    sumMapIf(map(cpu_bucket, others), cpu_known) AS cpu
FROM
(
    SELECT
        account_id, script_name, version_id, time AS at, status, sampled_out AS others,
        outcome NOT IN ('ok', 'canceled') AS threw,
        isNotNull(wall_ms) AS wall_known,
        isNotNull(cpu_ms) AS cpu_known,
        {{bucketOf "ifNull(wall_ms, 0)"}} AS wall_bucket,
        {{bucketOf "ifNull(cpu_ms, 0)"}} AS cpu_bucket
    FROM {{local "trace_events_others"}}
    WHERE sampled_out > 0 AND {{.Of}}
)
GROUP BY account_id, script_name, version_id, time;
{{end}}
