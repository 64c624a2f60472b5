-- Where whole parts go when their time has come, a changed retention only has to look
-- at the times of the parts that are there. Without this ClickHouse would write all of
-- their columns anew.
{{range partitioned}}
ALTER TABLE {{local .}}{{onCluster}} MODIFY SETTING materialize_ttl_recalculate_only = 1;
{{end}}
