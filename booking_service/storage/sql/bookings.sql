-- name: bookings.get
SELECT {booking}
FROM bookings
WHERE id = $1;

-- $1 booking, $2 last version seen, $3 limit
-- name: bookings.list_events
SELECT version, transition, from_state, to_state, reason, caller, event_time
FROM booking_events
WHERE booking_id = $1 AND version > $2
ORDER BY version
LIMIT $3;

-- Sums are numeric, and so exact for any number of bookings. A payment that its booking could not
-- accept is in neither sum.
-- $1 first instant, $2 first instant after, $3 vendor (null: any)
-- name: bookings.revenue
SELECT
    currency,
    count(*) AS bookings,
    sum(captured_minor) AS gross_minor,
    sum(refunded_minor) AS refunded_minor
FROM bookings
WHERE
    state IN ('CONFIRMED', 'FULFILLED', 'CANCELLED')
    AND confirm_time >= $1::timestamptz
    AND confirm_time < $2::timestamptz
    AND ($3::uuid IS NULL OR vendor_id = $3)
GROUP BY currency
ORDER BY currency;

-- Lists, newest first. In all of them: $1 states (empty: any), $2 and $3 the stay's dates
-- [from, until), $4 earliest first day that can reach $2, $5 and $6 the last row seen, $7 limit,
-- $8 earliest time of creation, $9 vendor (null: any). The condition on the indexed columns is a
-- plain equality or range, so that every plan can use the index.

-- $10 user
-- name: bookings.get_user_bookings
SELECT {booking}
FROM bookings
WHERE
    user_id = $10
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
    AND create_time >= $8::timestamptz
    AND ($9::uuid IS NULL OR vendor_id = $9)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $10 user, $11 package
-- name: bookings.get_user_package_bookings
SELECT {booking}
FROM bookings
WHERE
    user_id = $10
    AND package_id = $11
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
    AND create_time >= $8::timestamptz
    AND ($9::uuid IS NULL OR vendor_id = $9)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $10 package
-- name: bookings.list_by_package
SELECT {booking}
FROM bookings
WHERE
    package_id = $10
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
    AND create_time >= $8::timestamptz
    AND ($9::uuid IS NULL OR vendor_id = $9)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $9 is not null
-- name: bookings.list_by_vendor
SELECT {booking}
FROM bookings
WHERE
    vendor_id = $9::uuid
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
    AND create_time >= $8::timestamptz
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- A payment belongs to one booking.
-- $10 provider, $11 payment, $12 user (null: any), $13 package (null: any)
-- name: bookings.list_by_payment
SELECT {b.booking}
FROM payments AS p
INNER JOIN bookings AS b ON p.booking_id = b.id
WHERE
    p.provider = $10
    AND p.payment_id = $11
    AND b.start_date BETWEEN $4 AND $3::date - 1
    AND b.end_date > $2
    AND (cardinality($1::text[]) = 0 OR b.state = ANY($1))
    AND (b.create_time, b.id) < ($5::timestamptz, $6::uuid)
    AND b.create_time >= $8::timestamptz
    AND ($9::uuid IS NULL OR b.vendor_id = $9)
    AND ($12::text IS NULL OR b.user_id = $12)
    AND ($13::uuid IS NULL OR b.package_id = $13)
ORDER BY b.create_time DESC, b.id DESC
LIMIT $7;

-- $9 is null
-- name: bookings.list_by_dates
SELECT {booking}
FROM bookings
WHERE
    start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
    AND create_time >= $8::timestamptz
    AND ($9::uuid IS NULL OR vendor_id = $9)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $1 states (empty: any), $2 and $3 the last row seen, $4 limit, $5 earliest time of creation
-- name: bookings.list_recent
SELECT {booking}
FROM bookings
WHERE
    (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($2::timestamptz, $3::uuid)
    AND create_time >= $5::timestamptz
ORDER BY create_time DESC, id DESC
LIMIT $4;
