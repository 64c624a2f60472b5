-- What was deleted by request, and is not to be stored when it comes late: events of an
-- account, or of one script, whose time is before a time. script_name '' is every
-- script. Ingest reads it; rows stay, because a record may come again for as long as
-- Kafka or a backup of it keeps it.
--
-- In the quarantine a deleted event leaves its offset, with the reason 'deleted' and
-- nothing else, so that whoever compares offsets with Kafka's misses none. These are
-- many in a row, hence the codecs.
CREATE TABLE IF NOT EXISTS {{local "tombstones"}}{{onCluster}}
(
    account_id  String,
    script_name String,
    before      DateTime64(3, 'UTC'),
    created_at  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (account_id, script_name, before);

{{face "tombstones" "cityHash64(account_id)"}}

ALTER TABLE {{local "trace_events_quarantine"}}{{onCluster}}
    MODIFY COLUMN kafka_partition CODEC(T64, ZSTD(1)),
    MODIFY COLUMN kafka_offset CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN kafka_time CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN reason CODEC(ZSTD(1));
