-- Who called through a service binding: the script and the version whose process did.
-- Both are '' for requests of clients, for calls by RPC, whose caller nobody knows, and in
-- rows from before. Nearly all rows are so, which costs next to nothing on disk and to read.
{{range spread "trace_events"}}
ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS caller_script LowCardinality(String) CODEC(ZSTD(1)) AFTER affinity_rule;

ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS caller_version_id LowCardinality(String) CODEC(ZSTD(1)) AFTER caller_script;
{{end}}
