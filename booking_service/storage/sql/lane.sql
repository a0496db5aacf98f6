-- The lane of facts as a person sees it, and its new beginning after a fork.

-- name: lane.show internal
SELECT
    r.producer_id, r.epoch, r.next_seq, r.acked_seq, r.acked_facts, r.sink_id,
    r.withheld_facts + (SELECT coalesce(sum(w.count), 0) FROM withheld AS w)::bigint
        AS withheld_facts,
    (SELECT min(s.seq) FROM segment AS s) AS kept_from,
    t.state, t.reason, t.since, t.facts, t.resume_after, t.sink_id AS trouble_sink_id
FROM relay AS r
LEFT JOIN lane_trouble AS t ON true;

-- Sealing and acknowledging wait until the transaction ends, and then find another epoch.
-- name: lane.lock internal
SELECT producer_id FROM relay FOR UPDATE;

-- The last acknowledged segment whose facts the sink has, and the facts up to it: a count, since the
-- numbers may be those of another lane. Where none is kept, that before the first one kept.
-- $1 facts that the sink has
-- name: lane.stored internal
SELECT
    coalesce(max(k.seq) FILTER (WHERE k.facts <= $1), min(k.seq) - 1) AS seq,
    coalesce(max(k.facts) FILTER (WHERE k.facts <= $1), min(k.facts - k.count)) AS facts
FROM (
    SELECT
        s.seq, s.count,
        (r.acked_facts - sum(s.count) OVER (ORDER BY s.seq DESC) + s.count)::bigint AS facts
    FROM segment AS s
    INNER JOIN relay AS r ON s.seq <= r.acked_seq
) AS k;

-- The numbers change in two steps, since a unique index is checked row by row.
-- $1 segments up to this one belong to the lane that ends
-- name: lane.drop_segments internal
DELETE FROM segment
WHERE seq <= $1;

-- name: lane.free_numbers internal
UPDATE segment
SET seq = -seq;

-- $1 the number before the first one that is left, whose new number is 2
-- name: lane.renumber internal
UPDATE segment
SET seq = 1 - seq - $1, ack_time = NULL;

-- $1 epoch, $2 events of the gap, $3 now
-- name: lane.put_gap internal
INSERT INTO segment (seq, epoch, count, batch, batch_hash, seal_time)
VALUES (1, $1, 1, $2, sha256($2), $3);

-- $1 id of the new producer, $2 those it succeeds, $3 number before the first one left, $4 facts of
-- the sink, $5 id of the sink, null for the next that is met
-- name: lane.begin_anew internal
UPDATE relay
SET
    producer_id = $1, succeeds = $2, epoch = epoch + 1, next_seq = next_seq - $3 + 1,
    acked_seq = 0, acked_facts = $4, sink_id = $5
RETURNING epoch;

-- The sink then lets the lane take the place of that producer, and says what it has.
-- $1 id of the producer of another booking database, $2 how many producers are named
-- name: lane.succeed internal
UPDATE relay
SET succeeds = (array_prepend($1::uuid, array_remove(succeeds, $1::uuid))) [:$2], epoch = epoch + 1;

-- What an interrupted refill has sent went to the lane that ends.
-- name: lane.restart_refill internal
UPDATE refill
SET part = 'bookings', after = '{}', seen = 0, sent = 0, rebuilt = 0, not_kept = 0
WHERE part != 'done';

-- name: lane.end_trouble internal
DELETE FROM lane_trouble;

-- name: lane.succeeds internal
SELECT succeeds FROM relay;
