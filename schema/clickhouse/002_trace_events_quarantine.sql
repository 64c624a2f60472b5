-- Records that are no trace event, with the reason and the first bytes of the
-- value. Not partitioned: the time of a bad record can be anything, and a
-- repeated block must meet the partition of the first try to be recognised.
CREATE TABLE IF NOT EXISTS {{local "trace_events_quarantine"}}{{onCluster}}
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
ENGINE = {{engine "MergeTree"}}
ORDER BY (kafka_partition, kafka_offset)
SETTINGS {{deduplication}};

{{face "trace_events_quarantine" "kafka_partition"}}
