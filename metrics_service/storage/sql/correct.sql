-- The times of records that a wrong clock has dated ahead; see eventlog/correct_time.py.

-- name: correct.head
SELECT received_at, clock_timestamp() AS now FROM event_log_head FOR UPDATE;

-- $1 now
-- name: correct.first_ahead
SELECT min(position) FROM event_log WHERE received_at > $1;

-- $1 position
-- name: correct.time_before
SELECT received_at FROM event_log WHERE position < $1 ORDER BY position DESC LIMIT 1;

-- The days that records ahead of now are moved to.
-- $1 now, $2 how far ahead the newest is, $3 the time of the last record that is right
-- name: correct.days
SELECT DISTINCT date_trunc('day', greatest(received_at - $2::interval, $3) AT TIME ZONE 'UTC') AS day
FROM event_log
WHERE received_at > $1;

-- $1 now, $2 how far ahead the newest is, $3 the time of the last record that is right
-- name: correct.move
UPDATE event_log SET received_at = greatest(received_at - $2::interval, $3) WHERE received_at > $1;

-- No row unless the state has such records in it and can be folded again from the first one.
-- $1 the first position that is corrected
-- name: correct.forget_state
UPDATE checkpoint SET state_version = 0
WHERE position >= $1 AND EXISTS (SELECT FROM event_log WHERE position = 1)
RETURNING generation;

-- $1 now
-- name: correct.date_head
UPDATE event_log_head SET received_at = $1;

-- $1 now
-- name: correct.date_producers
UPDATE producer SET updated_at = $1 WHERE updated_at > $1;
