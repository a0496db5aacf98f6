-- The resume point of each producer, moved in the transaction that appends its batch.

-- name: producers.list
SELECT lane, id, epoch, next_seq, last_hash, instance, service, backfill, open, events, pinned
FROM producer
ORDER BY updated_at;

-- Moves those whose epoch and next_seq are still those of the plan.
-- $1 time, $2 to $12 the columns of a producer, $13 and $14 its old epoch and next_seq
-- name: producers.move
UPDATE producer AS p
SET epoch = new.epoch, next_seq = new.next_seq, last_hash = new.last_hash,
    instance = new.instance, service = new.service, backfill = new.backfill, open = new.open,
    events = new.events, pinned = new.pinned, updated_at = $1
FROM unnest(
    $2::integer[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[], $8::text[],
    $9::boolean[], $10::boolean[], $11::bigint[], $12::boolean[], $13::bigint[], $14::bigint[]
) AS new (lane, id, epoch, next_seq, last_hash, instance, service, backfill, open, events, pinned,
          old_epoch, old_next_seq)
WHERE p.lane = new.lane AND p.id = new.id
    AND p.epoch = new.old_epoch AND p.next_seq = new.old_next_seq;

-- Telemetry (lane 2) is numbered from 1 in each epoch. Facts are numbered across epochs: their
-- producers are kept.
-- $1 first instant that is kept
-- name: producers.forget
DELETE FROM producer WHERE lane = 2 AND NOT open AND updated_at < $1
RETURNING lane, id;

-- $1 lanes, $2 ids, side by side
-- name: producers.remove
DELETE FROM producer AS p
USING unnest($1::integer[], $2::text[]) AS gone (lane, id)
WHERE p.lane = gone.lane AND p.id = gone.id;
