-- The event log: positions are taken by UPDATE of its head, in the transaction that appends.

-- name: log.try_lock
SELECT pg_try_advisory_lock($1);

-- name: log.take_lead
UPDATE event_log_head SET writer_epoch = writer_epoch + 1
RETURNING writer_epoch, next_position, received_at;

-- name: log.advance
-- Takes $1 positions for records received at $2. No row when epoch $3 is no longer the writer's.
UPDATE event_log_head
SET next_position = next_position + $1, received_at = greatest(received_at, $2)
WHERE writer_epoch = $3
RETURNING next_position - $1 AS first, received_at;

-- name: log.read
-- At most $2 records after position $1, with $3 bytes of payload, but at least one record.
SELECT position, received_at, kind, lane, producer_id, epoch, seq, instance, service, backfill,
    event_count, payload
FROM (
    SELECT page.position, page.received_at, page.kind, page.lane, page.producer_id, page.epoch,
        page.seq, page.instance, page.service, page.backfill, page.event_count, page.payload,
        sum(length(page.payload)) OVER (ORDER BY page.position) AS bytes
    FROM (
        SELECT position, received_at, kind, lane, producer_id, epoch, seq, instance, service,
            backfill, event_count, payload
        FROM event_log
        WHERE position > $1
        ORDER BY position
        LIMIT $2
    ) AS page
) AS sized
WHERE bytes - length(payload) < $3
ORDER BY position;

-- Its partitions, one for each UTC day.

-- name: partitions.lock
SELECT pg_advisory_xact_lock($1);

-- name: partitions.list
SELECT child.relname AS name
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = 'event_log'::regclass;

-- name: partitions.find
SELECT to_regclass($1);
