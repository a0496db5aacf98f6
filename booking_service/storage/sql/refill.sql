-- Facts are sent again from the audit trail, by way of the outbox, in steps; see cli/refill.py.

-- $1 from, $2 now, $3 whether facts that were not kept are rebuilt
-- name: refill.begin internal
INSERT INTO refill (from_time, begin_time, rebuild, part, after, withheld)
SELECT $1, $2, $3, 'bookings', '{}', withheld_facts FROM relay
ON CONFLICT (singleton) DO UPDATE SET
    from_time = excluded.from_time,
    begin_time = excluded.begin_time,
    rebuild = excluded.rebuild,
    part = excluded.part,
    after = excluded.after,
    seen = 0,
    sent = 0,
    rebuilt = 0,
    not_kept = 0,
    withheld = excluded.withheld;

-- name: refill.lock internal
SELECT from_time, begin_time, rebuild, part, after, seen, sent, rebuilt, not_kept
FROM refill
FOR UPDATE;

-- $1 part, $2 key of the last row read, $3 rows seen, $4 facts sent, $5 rebuilt, $6 not kept
-- name: refill.advance internal
UPDATE refill
SET
    part = $1, after = $2, seen = seen + $3, sent = sent + $4, rebuilt = rebuilt + $5,
    not_kept = not_kept + $6;

-- In order of versions for each booking.
-- $1, $2 key of the last row read, $3 limit
-- name: refill.read_bookings internal
SELECT booking_id, version, transition, reason, event_time, fact
FROM booking_events
WHERE (booking_id, version) > ($1, $2)
ORDER BY booking_id, version
LIMIT $3;

-- $1 to $4 key of the last row read, $5 limit
-- name: refill.read_payments internal
SELECT {payment_event}, fact
FROM payment_events
WHERE (provider, payment_id, kind, refund_id) > ($1, $2, $3, $4)
ORDER BY provider, payment_id, kind, refund_id
LIMIT $5;

-- What was captured for bookings, and when.
-- $1 booking ids
-- name: refill.captured internal
SELECT e.booking_id, e.event_time, e.amount_minor
FROM payments AS p
INNER JOIN payment_events AS e
    ON e.provider = p.provider AND e.payment_id = p.payment_id AND e.kind = 'CAPTURED'
WHERE p.booking_id = ANY($1::uuid[]);

-- Why no fact is sent; no row while they are.
-- name: refill.trouble internal
SELECT state, reason FROM lane_trouble;

-- name: refill.producer internal
SELECT producer_id FROM relay;

-- What is sent now would be withheld.
-- name: refill.withholding internal
SELECT withholding FROM relay;

-- A refill that is done has sent what had been withheld when it began, if it read back as far.
-- name: refill.settle internal
UPDATE relay
SET
    withheld_facts = greatest(0, withheld_facts - refill.withheld),
    withheld_from = CASE WHEN withheld_facts > refill.withheld THEN withheld_from END
FROM refill
WHERE refill.from_time IS NULL OR refill.from_time <= relay.withheld_from;

-- name: refill.newest internal
SELECT coalesce(max(id), 0) AS id FROM outbox;

-- $1 an outbox row
-- name: refill.delivery internal
SELECT NOT EXISTS (SELECT FROM outbox WHERE id <= $1) AS sealed, next_seq - 1 AS seq, acked_seq
FROM relay;
