-- What each version of each script did in each second, minute and hour. All
-- three are fed from trace_events itself, not from each other, so that one block
-- has one name in every table. A failure is schema.Failed; assigned are the
-- requests whose version was drawn (schema.VersionRate). outcomes counts events
-- by outcome. The quantile sketches are off by 1 % of the value at most.
--
-- A granule is read as a whole, and each of its sketches costs a microsecond, so
-- granules are small. Tables that were made with the usual 8192 rows keep them: they
-- cannot be changed, and questions take about twice as long there.
{{range rollups}}
CREATE TABLE IF NOT EXISTS {{local .Table}}{{onCluster}}
(
    account_id        LowCardinality(String),
    script_name       LowCardinality(String),
    version_id        LowCardinality(String),
    time              DateTime('UTC') CODEC(Delta, ZSTD(1)),
    requests          SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    failures          SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    assigned          SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    assigned_failures SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    exceptions        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    status_2xx        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    status_3xx        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    status_4xx        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    status_5xx        SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    no_status         SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    wall_measured     SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    cpu_measured      SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    outcomes          SimpleAggregateFunction(sumMap, Map(String, UInt64)) CODEC(ZSTD(1)),
    wall_ms           AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(1)),
    cpu_ms            AggregateFunction(quantilesDD(0.01, 0.5, 0.9, 0.99), Nullable(Int64)) CODEC(ZSTD(1))
)
ENGINE = {{engine "AggregatingMergeTree"}}
PARTITION BY {{.PartitionBy}}
ORDER BY (account_id, script_name, time, version_id)
SETTINGS index_granularity = 1024, {{deduplication}}, ttl_only_drop_parts = 1;

{{face .Table "cityHash64(account_id, script_name)"}}

CREATE MATERIALIZED VIEW IF NOT EXISTS {{.Table}}_view{{onCluster}} TO {{local .Table}} AS
SELECT
    account_id,
    script_name,
    version_id,
    {{.Bucket}} AS time,
    count() AS requests,
    countIf(failed) AS failures,
    countIf(drawn) AS assigned,
    countIf(drawn AND failed) AS assigned_failures,
    countIf(threw) AS exceptions,
    countIf(intDiv(status, 100) = 2) AS status_2xx,
    countIf(intDiv(status, 100) = 3) AS status_3xx,
    countIf(intDiv(status, 100) = 4) AS status_4xx,
    countIf(status >= 500) AS status_5xx,
    countIf(status = 0) AS no_status,
    count(wall) AS wall_measured,
    count(cpu) AS cpu_measured,
    sumMap(map(outcome, toUInt64(1))) AS outcomes,
    quantilesDDState(0.01, 0.5, 0.9, 0.99)(wall) AS wall_ms,
    quantilesDDState(0.01, 0.5, 0.9, 0.99)(cpu) AS cpu_ms
FROM
(
    SELECT
        account_id, script_name, version_id, status, outcome,
        time AS at, wall_ms AS wall, cpu_ms AS cpu,
        outcome NOT IN ('ok', 'canceled') AS threw,
        threw OR status >= 500 AS failed,
        decision IN ('split', 'affinity', 'only') AS drawn
    FROM {{local "trace_events"}}
)
GROUP BY account_id, script_name, version_id, time;
{{end}}
