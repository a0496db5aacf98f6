-- $1 booking, $2 and $3 the last row seen, $4 limit
-- name: payments.list_by_booking
SELECT {payment}
FROM payments
WHERE booking_id = $1 AND (create_time, id) > ($2::timestamptz, $3::uuid)
ORDER BY create_time, id
LIMIT $4;

-- $1 booking
-- name: payments.booking_exists
SELECT EXISTS (SELECT FROM bookings WHERE id = $1) AS found;

-- $1 id
-- name: payments.booking_of
SELECT booking_id FROM payments WHERE id = $1;

-- $1 and $2 the last row seen, $3 limit
-- name: payments.list_failed
SELECT {payment}
FROM payments
WHERE state = 'FAILED' AND (next_retry_time, id) > ($1::timestamptz, $2::uuid)
ORDER BY next_retry_time, id
LIMIT $3;

-- Payments whose retry is due, and whether their booking still awaits a payment. Claiming a payment,
-- under the package lock, ends the retries of one that is no longer awaited.
-- $1 now, $2 limit
-- name: payments.find_due
SELECT
    p.id,
    p.booking_id,
    b.package_id,
    b.state IN ('HELD', 'PENDING_PAYMENT', 'EXPIRED')
    OR (
        b.state IN ('CONFIRMED', 'FULFILLED')
        AND b.balance_due_minor > 0
        AND b.balance_due_minor = p.amount_minor
    ) AS awaited
FROM payments AS p
INNER JOIN bookings AS b ON p.booking_id = b.id
WHERE p.state = 'FAILED' AND p.next_retry_time <= $1
ORDER BY p.next_retry_time, p.id
LIMIT $2;

-- $1 bookings, $2 providers, $3 payment ids, $4 kinds, $5 refund ids, $6 minor units,
-- $7 currencies, $8 failure codes, $9 callers, $10 now
-- name: early_payments.keep
INSERT INTO early_payment_events ({early_payment}, receive_time)
SELECT {w.early_payment}, $10::timestamptz
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
    $8::text[], $9::text[]
) AS w ({early_payment})
ON CONFLICT DO NOTHING;

-- Events whose booking exists now, in the order in which they arrived.
-- $1 limit
-- name: early_payments.matched internal
SELECT {e.early_payment}
FROM early_payment_events AS e
INNER JOIN bookings AS b ON e.booking_id = b.id
WHERE e.refusal = ''
ORDER BY e.receive_time, e.booking_id, e.provider, e.payment_id, e.kind
LIMIT $1;

-- $1 booking, $2 provider, $3 payment id, $4 kind, $5 refund id
-- name: early_payments.applied internal
DELETE FROM early_payment_events
WHERE
    booking_id = $1 AND provider = $2 AND payment_id = $3 AND kind = $4 AND refund_id = $5;

-- $1 booking, $2 provider, $3 payment id, $4 kind, $5 refund id, $6 reason
-- name: early_payments.refused internal
UPDATE early_payment_events SET refusal = $6
WHERE
    booking_id = $1 AND provider = $2 AND payment_id = $3 AND kind = $4 AND refund_id = $5;

-- $1 time
-- name: early_payments.forget internal
DELETE FROM early_payment_events WHERE receive_time < $1;
