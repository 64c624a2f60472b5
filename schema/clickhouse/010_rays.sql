-- A ray begins with its time, so that a granule, whose rows are of one time, holds a
-- narrow range of rays. This index is some bytes a granule and leads to the granules of
-- the ray's time; of those alone the filter of 009 is read, which takes more than a byte an
-- event. Rays that do not begin with a time are still found by the filter. Parts from before get the index
-- when they are merged.
ALTER TABLE {{local "trace_events"}}{{onCluster}} ADD INDEX IF NOT EXISTS ray_id_range ray_id TYPE minmax GRANULARITY 1;
