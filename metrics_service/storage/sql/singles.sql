-- The ids of events that arrive without a stream; see eventlog/single_events.py.

-- Returns those that are not known yet.
-- $1 ids, $2 the day of the log
-- name: singles.add
INSERT INTO single_event (id, received_on)
SELECT id, $2 FROM unnest($1::bytea[]) AS arrived (id)
ON CONFLICT DO NOTHING
RETURNING id;

-- Returns how many are forgotten.
-- $1 first day that is kept, $2 limit
-- name: singles.forget
WITH gone AS (
    DELETE FROM single_event
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM single_event WHERE received_on < $1 LIMIT $2))
    RETURNING 1
)

SELECT count(*) FROM gone;
