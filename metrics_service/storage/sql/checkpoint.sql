-- The checkpoint of the fold: its header and the rows of state change in one transaction.

-- name: checkpoint.get
SELECT generation, position, state_version FROM checkpoint;

-- Up to where the log is in the last checkpoint but one, and in totals that are kept.
-- name: checkpoint.get_rolled_up_position
SELECT least(previous_position, (SELECT coalesce(max(position), 0) FROM history_total))
FROM checkpoint;

-- No row unless this writer saved the newest checkpoint.
-- $1 epoch of the writer
-- name: checkpoint.get_generation
SELECT generation FROM checkpoint WHERE writer_epoch = $1;

-- No row when the generation is not the newest, or the epoch no longer the writer's.
-- $1 position, $2 version of the state, $3 epoch of the writer, $4 generation
-- name: checkpoint.advance
UPDATE checkpoint
SET generation = generation + 1, previous_position = checkpoint.position, position = $1,
    state_version = $2, writer_epoch = $3, saved_at = clock_timestamp()
WHERE generation = $4 AND EXISTS (SELECT FROM event_log_head WHERE writer_epoch = $3)
RETURNING generation;

-- name: checkpoint.list_buckets
SELECT section, bucket, state FROM checkpoint_bucket;

-- $1 sections, $2 buckets, $3 states, side by side
-- name: checkpoint.put_buckets
INSERT INTO checkpoint_bucket (section, bucket, state)
SELECT section, bucket, state
FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS new (section, bucket, state)
ON CONFLICT (section, bucket) DO UPDATE SET state = excluded.state;

-- $1 sections, $2 buckets, side by side
-- name: checkpoint.remove_buckets
DELETE FROM checkpoint_bucket AS old
USING unnest($1::text[], $2::bigint[]) AS gone (section, bucket)
WHERE old.section = gone.section AND old.bucket = gone.bucket;

-- name: checkpoint.remove_all_buckets
DELETE FROM checkpoint_bucket;
