-- Sampling at the gateway: an event stands for itself and for sampled_out others of
-- its version, second, decision, outcome and status, whose events were left out. Old
-- rows stand for themselves alone.
--
-- The views of 003 go on counting the events themselves. What events stand for is
-- inserted into trace_events_others, which keeps nothing: its views add the others to
-- the same rows of the rollups. They leave the old views alone, because MODIFY QUERY
-- changes the name under which ClickHouse remembers a block: one that was half stored
-- before and repeated afterwards would count twice. And they are no views of
-- trace_events, because each of those costs every insert some milliseconds, also
-- where nothing is sampled.
--
-- quantilesDD knows no weights, so times have a second sketch. It holds what stands
-- for others and what failed, which are all but few of the requests where a script is
-- sampled, each with its weight; wall_weighted is how many requests that makes.
{{range spread "trace_events"}}
ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS sampled_out UInt64 CODEC(ZSTD(1)) AFTER decision;
{{end}}

CREATE TABLE IF NOT EXISTS {{local "trace_events_others"}}{{onCluster}}
(
    account_id  String,
    script_name String,
    time        DateTime64(3, 'UTC'),
    version_id  String,
    outcome     String,
    status      UInt16,
    wall_ms     Nullable(Int64),
    cpu_ms      Nullable(Int64),
    decision    String,
    sampled_out UInt64
)
ENGINE = Null;

{{face "trace_events_others" "cityHash64(account_id, script_name)"}}
{{range rollups}}
{{range spread .Table}}
ALTER TABLE {{.}}{{onCluster}}
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));
{{end}}
CREATE MATERIALIZED VIEW IF NOT EXISTS {{.Table}}_others_view{{onCluster}} TO {{local .Table}} AS
SELECT
    account_id,
    script_name,
    version_id,
    {{.Bucket}} AS time,
    sum(others) AS requests,
    sumIf(others, failed) AS failures,
    sumIf(others, drawn) AS assigned,
    sumIf(others, drawn AND failed) AS assigned_failures,
    sumIf(others, threw) AS exceptions,
    sumIf(others, intDiv(status, 100) = 2) AS status_2xx,
    sumIf(others, intDiv(status, 100) = 3) AS status_3xx,
    sumIf(others, intDiv(status, 100) = 4) AS status_4xx,
    sumIf(others, status >= 500) AS status_5xx,
    sumIf(others, status = 0) AS no_status,
    sumIf(others, wall IS NOT NULL) AS wall_measured,
    sumIf(others, cpu IS NOT NULL) AS cpu_measured,
    sumMap(map(outcome, others)) AS outcomes,
    sum(others) AS sampled_out,
    sumIf(others + 1, wall IS NOT NULL) AS wall_weighted,
    sumIf(others + 1, cpu IS NOT NULL) AS cpu_weighted,
    quantilesTDigestWeightedState(0.5, 0.9, 0.99)(wall, others + 1) AS wall_ms_weighted,
    quantilesTDigestWeightedState(0.5, 0.9, 0.99)(cpu, others + 1) AS cpu_ms_weighted
FROM
(
    SELECT
        account_id, script_name, version_id, status, outcome,
        time AS at, wall_ms AS wall, cpu_ms AS cpu, sampled_out AS others,
        outcome NOT IN ('ok', 'canceled') AS threw,
        threw OR status >= 500 AS failed,
        decision IN ('split', 'affinity', 'only') AS drawn
    FROM {{local "trace_events_others"}}
)
GROUP BY account_id, script_name, version_id, time;
{{end}}
