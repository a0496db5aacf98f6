-- $1 id
-- name: refunds.get
SELECT {refund}
FROM refunds
WHERE id = $1;

-- Lists, oldest first. In all of them: $1 states, $2 and $3 the instants [from, until), $4 and $5 the
-- last row seen, $6 limit. Each state is a stretch of the index, of which a page is read at most.

-- name: refunds.list
SELECT {r.refund}
FROM unnest($1::text[]) AS w (state)
CROSS JOIN LATERAL (
    SELECT {f.refund}
    FROM refunds AS f
    WHERE
        f.state = w.state
        AND f.create_time >= $2 AND f.create_time < $3
        AND (f.create_time, f.id) > ($4::timestamptz, $5::uuid)
    ORDER BY f.create_time, f.id
    LIMIT $6
) AS r
ORDER BY r.create_time, r.id
LIMIT $6;

-- $7 vendor
-- name: refunds.list_by_vendor
SELECT {r.refund}
FROM unnest($1::text[]) AS w (state)
CROSS JOIN LATERAL (
    SELECT {f.refund}
    FROM refunds AS f
    WHERE
        f.vendor_id = $7
        AND f.state = w.state
        AND f.create_time >= $2 AND f.create_time < $3
        AND (f.create_time, f.id) > ($4::timestamptz, $5::uuid)
    ORDER BY f.create_time, f.id
    LIMIT $6
) AS r
ORDER BY r.create_time, r.id
LIMIT $6;

-- A booking has few.
-- $7 booking, $8 vendor (null: any)
-- name: refunds.list_by_booking
SELECT {refund}
FROM refunds
WHERE
    booking_id = $7
    AND ($8::uuid IS NULL OR vendor_id = $8)
    AND state = ANY($1::text[])
    AND create_time >= $2 AND create_time < $3
    AND (create_time, id) > ($4::timestamptz, $5::uuid)
ORDER BY create_time, id
LIMIT $6;

-- Refunds that are to be paid out now, the longest due first.
-- $1 now, $2 limit
-- name: refunds.find_due
SELECT r.id, r.booking_id, b.package_id
FROM refunds AS r
INNER JOIN bookings AS b ON r.booking_id = b.id
WHERE r.state = 'REQUESTED' AND r.next_attempt_time <= $1
ORDER BY r.next_attempt_time, r.id
LIMIT $2;
