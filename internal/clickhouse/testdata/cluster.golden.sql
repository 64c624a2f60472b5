CREATE TABLE IF NOT EXISTS schema_migrations_local ON CLUSTER `main`
(
    number     UInt32,
    name       String,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY number;

CREATE TABLE IF NOT EXISTS schema_migrations ON CLUSTER `main` AS schema_migrations_local
ENGINE = Distributed(`main`, `tidegate`, schema_migrations_local, number);

-- One row per event. "time" is the event's own, unless its clock was far from
-- the record's; then it is the record's, and skew_ms says by how much the event
-- was off (EventTimestampMs = time + skew_ms). Days are the partitions, so one
-- block spans few of them and TTL drops whole parts.
--
-- status and upstream_ms: 0 and NULL say that there was no response. wall_ms
-- and cpu_ms are NULL where nobody measured. event, exceptions, logs and script_tags are JSON.
CREATE TABLE IF NOT EXISTS trace_events_local ON CLUSTER `main`
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
ENGINE = ReplicatedMergeTree
PARTITION BY toDate(time)
ORDER BY (account_id, script_name, time)
SETTINGS replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS trace_events ON CLUSTER `main` AS trace_events_local
ENGINE = Distributed(`main`, `tidegate`, trace_events_local, cityHash64(account_id, script_name));

-- Records that are no trace event, with the reason and the first bytes of the
-- value. Not partitioned: the time of a bad record can be anything, and a
-- repeated block must meet the partition of the first try to be recognised.
CREATE TABLE IF NOT EXISTS trace_events_quarantine_local ON CLUSTER `main`
(
    kafka_partition Int32,
    kafka_offset    Int64,
    kafka_time      DateTime64(3, 'UTC'),
    account_id      LowCardinality(String),
    reason          LowCardinality(String),
    detail          String CODEC(ZSTD(1)),
    value           String CODEC(ZSTD(3)),
    value_bytes     UInt64,
    inserted_at     DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplicatedMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS trace_events_quarantine ON CLUSTER `main` AS trace_events_quarantine_local
ENGINE = Distributed(`main`, `tidegate`, trace_events_quarantine_local, kafka_partition);

-- What each version of each script did in each second, minute and hour. All
-- three are fed from trace_events itself, not from each other, so that one block
-- has one name in every table. A failure is schema.Failed; assigned are the
-- requests whose version was drawn (schema.VersionRate). outcomes counts events
-- by outcome. The quantile sketches are off by 1 % of the value at most.
--
-- A granule is read as a whole, and each of its sketches costs a microsecond, so
-- granules are small. Tables that were made with the usual 8192 rows keep them: they
-- cannot be changed, and questions take about twice as long there.

CREATE TABLE IF NOT EXISTS version_rates_1s_local ON CLUSTER `main`
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
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (account_id, script_name, time, version_id)
SETTINGS index_granularity = 1024, replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS version_rates_1s ON CLUSTER `main` AS version_rates_1s_local
ENGINE = Distributed(`main`, `tidegate`, version_rates_1s_local, cityHash64(account_id, script_name));

CREATE MATERIALIZED VIEW IF NOT EXISTS version_rates_1s_view ON CLUSTER `main` TO version_rates_1s_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toDateTime(at, 'UTC') AS time,
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
    FROM trace_events_local
)
GROUP BY account_id, script_name, version_id, time;

CREATE TABLE IF NOT EXISTS version_rates_1m_local ON CLUSTER `main`
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
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (account_id, script_name, time, version_id)
SETTINGS index_granularity = 1024, replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS version_rates_1m ON CLUSTER `main` AS version_rates_1m_local
ENGINE = Distributed(`main`, `tidegate`, version_rates_1m_local, cityHash64(account_id, script_name));

CREATE MATERIALIZED VIEW IF NOT EXISTS version_rates_1m_view ON CLUSTER `main` TO version_rates_1m_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toStartOfMinute(at) AS time,
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
    FROM trace_events_local
)
GROUP BY account_id, script_name, version_id, time;

CREATE TABLE IF NOT EXISTS version_rates_1h_local ON CLUSTER `main`
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
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toYear(time)
ORDER BY (account_id, script_name, time, version_id)
SETTINGS index_granularity = 1024, replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS version_rates_1h ON CLUSTER `main` AS version_rates_1h_local
ENGINE = Distributed(`main`, `tidegate`, version_rates_1h_local, cityHash64(account_id, script_name));

CREATE MATERIALIZED VIEW IF NOT EXISTS version_rates_1h_view ON CLUSTER `main` TO version_rates_1h_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toStartOfHour(at) AS time,
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
    FROM trace_events_local
)
GROUP BY account_id, script_name, version_id, time;

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

ALTER TABLE trace_events_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS sampled_out UInt64 CODEC(ZSTD(1)) AFTER decision;

ALTER TABLE trace_events ON CLUSTER `main` ADD COLUMN IF NOT EXISTS sampled_out UInt64 CODEC(ZSTD(1)) AFTER decision;

CREATE TABLE IF NOT EXISTS trace_events_others_local ON CLUSTER `main`
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

CREATE TABLE IF NOT EXISTS trace_events_others ON CLUSTER `main` AS trace_events_others_local
ENGINE = Distributed(`main`, `tidegate`, trace_events_others_local, cityHash64(account_id, script_name));

ALTER TABLE version_rates_1s_local ON CLUSTER `main`
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));

ALTER TABLE version_rates_1s ON CLUSTER `main`
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));

CREATE MATERIALIZED VIEW IF NOT EXISTS version_rates_1s_others_view ON CLUSTER `main` TO version_rates_1s_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toDateTime(at, 'UTC') AS time,
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
    FROM trace_events_others_local
)
GROUP BY account_id, script_name, version_id, time;

ALTER TABLE version_rates_1m_local ON CLUSTER `main`
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));

ALTER TABLE version_rates_1m ON CLUSTER `main`
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));

CREATE MATERIALIZED VIEW IF NOT EXISTS version_rates_1m_others_view ON CLUSTER `main` TO version_rates_1m_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toStartOfMinute(at) AS time,
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
    FROM trace_events_others_local
)
GROUP BY account_id, script_name, version_id, time;

ALTER TABLE version_rates_1h_local ON CLUSTER `main`
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));

ALTER TABLE version_rates_1h ON CLUSTER `main`
    ADD COLUMN IF NOT EXISTS sampled_out SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_weighted SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS wall_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cpu_ms_weighted AggregateFunction(quantilesTDigestWeighted(0.5, 0.9, 0.99), Nullable(Int64), UInt64) CODEC(ZSTD(1));

CREATE MATERIALIZED VIEW IF NOT EXISTS version_rates_1h_others_view ON CLUSTER `main` TO version_rates_1h_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toStartOfHour(at) AS time,
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
    FROM trace_events_others_local
)
GROUP BY account_id, script_name, version_id, time;

-- What a replay of a Logpush job needs of an event that Kafka no longer has.
--
-- logpush is 'yes', or 'no' for an event that no job gets because its script said so
-- when it began. Rows from before are '': nobody knows, and a replay leaves them out
-- unless it is told otherwise.
--
-- A replay reads by partition and offset, in pages. Offsets grow with time, by which
-- rows of a script are ordered, so a granule holds a narrow range of them. Parts from
-- before get the index when they are merged.

ALTER TABLE trace_events_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS affinity_rule UInt16 CODEC(ZSTD(1)) AFTER decision;

ALTER TABLE trace_events_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS logpush LowCardinality(String) AFTER logs;

ALTER TABLE trace_events ON CLUSTER `main` ADD COLUMN IF NOT EXISTS affinity_rule UInt16 CODEC(ZSTD(1)) AFTER decision;

ALTER TABLE trace_events ON CLUSTER `main` ADD COLUMN IF NOT EXISTS logpush LowCardinality(String) AFTER logs;

ALTER TABLE trace_events_local ON CLUSTER `main` ADD INDEX IF NOT EXISTS kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1;

-- Codecs chosen by what bench/storage measured; the figures are in docs/benchmarks.md.
-- Parts from before get them when they are merged. Types stay as they are, because a
-- change of type would write whole columns anew.
--
-- LowCardinality columns had the server's default, LZ4. T64 cuts the bits that small
-- numbers do not need. A level above 1 is for few bytes only: rollups have a fraction of
-- the rows, and for the JSON of an event level 3 was even larger than 1.
ALTER TABLE trace_events_local ON CLUSTER `main`
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

ALTER TABLE version_rates_1s_local ON CLUSTER `main`
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

ALTER TABLE version_rates_1m_local ON CLUSTER `main`
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

ALTER TABLE version_rates_1h_local ON CLUSTER `main`
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

-- Where whole parts go when their time has come, a changed retention only has to look
-- at the times of the parts that are there. Without this ClickHouse would write all of
-- their columns anew.

ALTER TABLE trace_events_local ON CLUSTER `main` MODIFY SETTING materialize_ttl_recalculate_only = 1;

ALTER TABLE version_rates_1s_local ON CLUSTER `main` MODIFY SETTING materialize_ttl_recalculate_only = 1;

ALTER TABLE version_rates_1m_local ON CLUSTER `main` MODIFY SETTING materialize_ttl_recalculate_only = 1;

ALTER TABLE version_rates_1h_local ON CLUSTER `main` MODIFY SETTING materialize_ttl_recalculate_only = 1;

-- What people ask about single events.
--
-- exception_groups is what the exceptions of an event are counted by, one element for
-- each kind: name, message and the innermost frame of the stack, on three lines. Numbers
-- and ids in the message are '#', and a frame has no line or column, so that a kind
-- survives the next upload. To work it out when somebody asks took seconds of an hour's
-- exceptions. It costs an insert a comparison where nothing was thrown. Rows from before
-- are worked out when they are read, until they are merged.
--
-- A ray id is random and its event may be anywhere: the index names the granules where
-- it can be, one in a hundred others among them. Parts from before get it when they are merged.

ALTER TABLE trace_events_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS exception_groups Array(String) MATERIALIZED if(exceptions = '[]', [], arrayDistinct(arrayMap(
    thrown -> concat(
        substringUTF8(JSONExtractString(thrown, 'Name'), 1, 100), '\n',
        substringUTF8(replaceRegexpAll(replaceAll(JSONExtractString(thrown, 'Message'), '\n', ' '), '[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*|[0-9]+', '#'), 1, 300), '\n',
        substringUTF8(replaceRegexpOne(extract(JSONExtractString(thrown, 'Stack'), '(?m)^\\s*at ([^\\n]+)'), '(:[0-9]+)+(\\)?)$', '\\2'), 1, 200)),
    JSONExtractArrayRaw(exceptions)))) CODEC(ZSTD(1));

ALTER TABLE trace_events ON CLUSTER `main` ADD COLUMN IF NOT EXISTS exception_groups Array(String) MATERIALIZED if(exceptions = '[]', [], arrayDistinct(arrayMap(
    thrown -> concat(
        substringUTF8(JSONExtractString(thrown, 'Name'), 1, 100), '\n',
        substringUTF8(replaceRegexpAll(replaceAll(JSONExtractString(thrown, 'Message'), '\n', ' '), '[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*|[0-9]+', '#'), 1, 300), '\n',
        substringUTF8(replaceRegexpOne(extract(JSONExtractString(thrown, 'Stack'), '(?m)^\\s*at ([^\\n]+)'), '(:[0-9]+)+(\\)?)$', '\\2'), 1, 200)),
    JSONExtractArrayRaw(exceptions)))) CODEC(ZSTD(1));

ALTER TABLE trace_events_local ON CLUSTER `main` ADD INDEX IF NOT EXISTS ray_id_filter ray_id TYPE bloom_filter(0.01) GRANULARITY 1;

-- A ray begins with its time, so that a granule, whose rows are of one time, holds a
-- narrow range of rays. This index is some bytes a granule and leads to the granules of
-- the ray's time; of those alone the filter of 009 is read, which takes more than a byte an
-- event. Rays that do not begin with a time are still found by the filter. Parts from before get the index
-- when they are merged.
ALTER TABLE trace_events_local ON CLUSTER `main` ADD INDEX IF NOT EXISTS ray_id_range ray_id TYPE minmax GRANULARITY 1;

-- What was deleted by request, and is not to be stored when it comes late: events of an
-- account, or of one script, whose time is before a time. script_name '' is every
-- script. Ingest reads it; rows stay, because a record may come again for as long as
-- Kafka or a backup of it keeps it.
--
-- In the quarantine a deleted event leaves its offset, with the reason 'deleted' and
-- nothing else, so that whoever compares offsets with Kafka's misses none. These are
-- many in a row, hence the codecs.
CREATE TABLE IF NOT EXISTS tombstones_local ON CLUSTER `main`
(
    account_id  String,
    script_name String,
    before      DateTime64(3, 'UTC'),
    created_at  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplicatedReplacingMergeTree
ORDER BY (account_id, script_name, before);

CREATE TABLE IF NOT EXISTS tombstones ON CLUSTER `main` AS tombstones_local
ENGINE = Distributed(`main`, `tidegate`, tombstones_local, cityHash64(account_id));

ALTER TABLE trace_events_quarantine_local ON CLUSTER `main`
    MODIFY COLUMN kafka_partition CODEC(T64, ZSTD(1)),
    MODIFY COLUMN kafka_offset CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN kafka_time CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN reason CODEC(ZSTD(1));

-- A block whose sender slept over it is refused: by then somebody else may have stored
-- it, so long ago that its token is forgotten. inserted_at is when the sender knew that
-- the partition was its own, by this server's clock. trace_events_others keeps nothing
-- and can have no constraint, so there it is the default of a column that throws.
--
-- 30 s leave room for a slow server: the age is looked at when an insert begins. In 30 s
-- no table forgets a block; internal/clickhouse/layout.go has the arithmetic.

ALTER TABLE trace_events_local ON CLUSTER `main` ADD CONSTRAINT IF NOT EXISTS inserted_in_time
    CHECK inserted_at BETWEEN now64(3) - INTERVAL 30 SECOND AND now64(3) + INTERVAL 5 SECOND;

ALTER TABLE trace_events_quarantine_local ON CLUSTER `main` ADD CONSTRAINT IF NOT EXISTS inserted_in_time
    CHECK inserted_at BETWEEN now64(3) - INTERVAL 30 SECOND AND now64(3) + INTERVAL 5 SECOND;

ALTER TABLE trace_events_others_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS inserted_at DateTime64(3, 'UTC') DEFAULT now64(3);

ALTER TABLE trace_events_others ON CLUSTER `main` ADD COLUMN IF NOT EXISTS inserted_at DateTime64(3, 'UTC') DEFAULT now64(3);

-- The face has no such column: with one it would look at the time itself, and the shard,
-- which it may reach late, would not.
ALTER TABLE trace_events_others_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS in_time UInt8 DEFAULT throwIf(inserted_at NOT BETWEEN now64(3) - INTERVAL 30 SECOND AND now64(3) + INTERVAL 5 SECOND, 'inserted_in_time: the block came too late, or clocks differ');

ALTER TABLE trace_events_local ON CLUSTER `main` MODIFY SETTING replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE trace_events_quarantine_local ON CLUSTER `main` MODIFY SETTING replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE version_rates_1s_local ON CLUSTER `main` MODIFY SETTING replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE version_rates_1m_local ON CLUSTER `main` MODIFY SETTING replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800;

ALTER TABLE version_rates_1h_local ON CLUSTER `main` MODIFY SETTING replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800;

-- What a rollback is decided by, of each version and second: requests whose version was
-- drawn, and nothing else (schema.RateBlock). wall and cpu count those whose time was
-- measured, by schema.DurationBucket.
--
-- It is a table of its own, because its rows come from one view: a block is in all
-- columns of a row or in none. Beside the columns of version_rates_1s a reader could see
-- requests without their times, and a merge would write the sketches of that table once
-- more for each block. Seconds from before are only in version_rates_1s (RateBlocks).
--
-- What a view costs an insert is above all the part that it writes. To count by bucket in
-- an inner query, so that sumMap has fewer rows, took no less processor time.

CREATE TABLE IF NOT EXISTS assigned_rates_1s_local ON CLUSTER `main`
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
ENGINE = ReplicatedAggregatingMergeTree
PARTITION BY toDate(time)
ORDER BY (account_id, script_name, time, version_id)
SETTINGS index_granularity = 1024, replicated_deduplication_window = 30000, replicated_deduplication_window_seconds = 604800, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1;

CREATE TABLE IF NOT EXISTS assigned_rates_1s ON CLUSTER `main` AS assigned_rates_1s_local
ENGINE = Distributed(`main`, `tidegate`, assigned_rates_1s_local, cityHash64(account_id, script_name));

CREATE MATERIALIZED VIEW IF NOT EXISTS assigned_rates_1s_view ON CLUSTER `main` TO assigned_rates_1s_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toDateTime(at, 'UTC') AS time,
    count() AS requests,
    countIf(threw OR status >= 500) AS failures,
    countIf(threw) AS exceptions,
    countIf(status >= 500) AS status_5xx,
    sumMapIf(map(wall_bucket, toUInt64(1)), wall_known) AS wall,
    sumMapIf(map(cpu_bucket, toUInt64(1)), cpu_known) AS cpu
FROM
(
    SELECT
        account_id, script_name, version_id, time AS at, status,
        outcome NOT IN ('ok', 'canceled') AS threw,
        isNotNull(wall_ms) AS wall_known,
        isNotNull(cpu_ms) AS cpu_known,
        toUInt16(if(ifNull(wall_ms, 0) > 1, ceil(16 * log2(ifNull(wall_ms, 0))), 0)) AS wall_bucket,
        toUInt16(if(ifNull(cpu_ms, 0) > 1, ceil(16 * log2(ifNull(cpu_ms, 0))), 0)) AS cpu_bucket
    FROM trace_events_local
    WHERE decision IN ('split', 'affinity', 'only')
)
GROUP BY account_id, script_name, version_id, time;

CREATE MATERIALIZED VIEW IF NOT EXISTS assigned_rates_1s_others_view ON CLUSTER `main` TO assigned_rates_1s_local AS
SELECT
    account_id,
    script_name,
    version_id,
    toDateTime(at, 'UTC') AS time,
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
        toUInt16(if(ifNull(wall_ms, 0) > 1, ceil(16 * log2(ifNull(wall_ms, 0))), 0)) AS wall_bucket,
        toUInt16(if(ifNull(cpu_ms, 0) > 1, ceil(16 * log2(ifNull(cpu_ms, 0))), 0)) AS cpu_bucket
    FROM trace_events_others_local
    WHERE sampled_out > 0 AND decision IN ('split', 'affinity', 'only')
)
GROUP BY account_id, script_name, version_id, time;

-- Who called through a service binding: the script and the version whose process did.
-- Both are '' for requests of clients, for calls by RPC, whose caller nobody knows, and in
-- rows from before. Nearly all rows are so, which costs next to nothing on disk and to read.

ALTER TABLE trace_events_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS caller_script LowCardinality(String) CODEC(ZSTD(1)) AFTER affinity_rule;

ALTER TABLE trace_events_local ON CLUSTER `main` ADD COLUMN IF NOT EXISTS caller_version_id LowCardinality(String) CODEC(ZSTD(1)) AFTER caller_script;

ALTER TABLE trace_events ON CLUSTER `main` ADD COLUMN IF NOT EXISTS caller_script LowCardinality(String) CODEC(ZSTD(1)) AFTER affinity_rule;

ALTER TABLE trace_events ON CLUSTER `main` ADD COLUMN IF NOT EXISTS caller_version_id LowCardinality(String) CODEC(ZSTD(1)) AFTER caller_script;

ALTER TABLE trace_events_local ON CLUSTER `main` MODIFY TTL toDateTime(time) + INTERVAL 30 DAY;

ALTER TABLE trace_events_quarantine_local ON CLUSTER `main` MODIFY TTL toDateTime(inserted_at) + INTERVAL 30 DAY;

ALTER TABLE version_rates_1s_local ON CLUSTER `main` MODIFY TTL toDateTime(time) + INTERVAL 7 DAY;

ALTER TABLE version_rates_1m_local ON CLUSTER `main` MODIFY TTL toDateTime(time) + INTERVAL 180 DAY;

ALTER TABLE version_rates_1h_local ON CLUSTER `main` MODIFY TTL toDateTime(time) + INTERVAL 1825 DAY;

ALTER TABLE assigned_rates_1s_local ON CLUSTER `main` MODIFY TTL toDateTime(time) + INTERVAL 7 DAY;

ALTER TABLE version_rates_1h_local ON CLUSTER `main` REMOVE TTL;
