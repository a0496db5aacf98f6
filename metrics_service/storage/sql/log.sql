-- The event log: positions are taken by UPDATE of its head, in the transaction that appends.

-- columns: record = position, received_at, kind, lane, producer_id, epoch, seq, instance, service,
--     backfill, event_count, payload, repeats

-- $1 lock
-- name: log.try_lock
SELECT pg_try_advisory_lock($1);

-- The epoch of the process that leads, or was the last to lead.
-- name: log.writer_epoch
SELECT writer_epoch FROM event_log_head;

-- The log gets its id from its first writer, so that an empty copy of its tables is another one.
-- name: log.take_lead
UPDATE event_log_head
SET writer_epoch = writer_epoch + 1, sink_id = coalesce(sink_id, gen_random_uuid())
RETURNING writer_epoch, next_position, received_at, sink_id, facts_known_from,
    clock_timestamp() AS clock;

-- No row when the epoch is no longer the writer's.
-- $1 number of records, $2 their received_at, $3 epoch of the writer
-- name: log.advance
UPDATE event_log_head
SET next_position = next_position + $1, received_at = greatest(received_at, $2)
WHERE writer_epoch = $3
RETURNING next_position - $1 AS first, received_at, clock_timestamp() AS clock;

-- Returns those of the facts that the log does not have yet.
-- $1 ids of facts, $2 the day of the log
-- name: log.add_facts
INSERT INTO fact (id, received_on)
SELECT id, $2 FROM unnest($1::bytea[]) AS arrived (id)
ON CONFLICT DO NOTHING
RETURNING id;

-- At least one record, however large it is.
-- $1 last position read, $2 most records, $3 most bytes of payload
-- name: log.read
SELECT {record}
FROM (
    SELECT {page.record}, sum(length(page.payload)) OVER (ORDER BY page.position) AS bytes
    FROM (SELECT {record} FROM event_log WHERE position > $1 ORDER BY position LIMIT $2) AS page
) AS sized
WHERE bytes - length(payload) < $3
ORDER BY position;

-- The ids of facts, which are forgotten by the day on which they were received.

-- $1 first day that is kept
-- name: facts.exist_before
SELECT EXISTS (SELECT FROM fact WHERE received_on < $1);

-- Facts of before $1, by their own time, are not told from new ones any more; it never goes back.
-- name: facts.know_from
UPDATE event_log_head SET facts_known_from = greatest(facts_known_from, $1);

-- Returns how many are forgotten.
-- $1 first day that is kept, $2 limit
-- name: facts.forget
WITH gone AS (
    DELETE FROM fact
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM fact WHERE received_on < $1 LIMIT $2))
    RETURNING 1
)

SELECT count(*) FROM gone;

-- Its partitions, one for each UTC day.

-- $1 lock
-- name: partitions.lock
SELECT pg_advisory_xact_lock($1);

-- name: partitions.list
SELECT child.relname AS name, pg_total_relation_size(child.oid) AS bytes
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = 'event_log'::regclass;

-- $1 name of the partition
-- name: partitions.find
SELECT to_regclass($1);
