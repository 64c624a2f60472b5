-- What a replay of a Logpush job needs of an event that Kafka no longer has.
--
-- logpush is 'yes', or 'no' for an event that no job gets because its script said so
-- when it began. Rows from before are '': nobody knows, and a replay leaves them out
-- unless it is told otherwise.
--
-- A replay reads by partition and offset, in pages. Offsets grow with time, by which
-- rows of a script are ordered, so a granule holds a narrow range of them. Parts from
-- before get the index when they are merged.
{{range spread "trace_events"}}
ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS affinity_rule UInt16 CODEC(ZSTD(1)) AFTER decision;

ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS logpush LowCardinality(String) AFTER logs;
{{end}}
ALTER TABLE {{local "trace_events"}}{{onCluster}} ADD INDEX IF NOT EXISTS kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1;
