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
{{range spread "trace_events"}}
ALTER TABLE {{.}}{{onCluster}} ADD COLUMN IF NOT EXISTS exception_groups Array(String) MATERIALIZED if(exceptions = '[]', [], arrayDistinct(arrayMap(
    thrown -> concat(
        substringUTF8(JSONExtractString(thrown, 'Name'), 1, 100), '\n',
        substringUTF8(replaceRegexpAll(replaceAll(JSONExtractString(thrown, 'Message'), '\n', ' '), '[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*|[0-9]+', '#'), 1, 300), '\n',
        substringUTF8(replaceRegexpOne(extract(JSONExtractString(thrown, 'Stack'), '(?m)^\\s*at ([^\\n]+)'), '(:[0-9]+)+(\\)?)$', '\\2'), 1, 200)),
    JSONExtractArrayRaw(exceptions)))) CODEC(ZSTD(1));
{{end}}
ALTER TABLE {{local "trace_events"}}{{onCluster}} ADD INDEX IF NOT EXISTS ray_id_filter ray_id TYPE bloom_filter(0.01) GRANULARITY 1;
