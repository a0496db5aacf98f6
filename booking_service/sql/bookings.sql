-- name: bookings.get
SELECT
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
FROM bookings
WHERE id = $1;

-- Lists, newest first. In all of them: $1 states (empty: any), $2 and $3 the stay's dates
-- [from, until), $4 earliest first day that can reach $2, $5 and $6 the last row seen, $7 limit.
-- What a list is found by is a plain equality or range, so that no plan can miss its index.

-- $8 user
-- name: bookings.get_user_bookings
SELECT
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
FROM bookings
WHERE
    user_id = $8
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $8 user, $9 package
-- name: bookings.get_user_package_bookings
SELECT
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
FROM bookings
WHERE
    user_id = $8
    AND package_id = $9
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $8 package
-- name: bookings.list_by_package
SELECT
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
FROM bookings
WHERE
    package_id = $8
    AND start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- name: bookings.list_by_dates
SELECT
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
FROM bookings
WHERE
    start_date BETWEEN $4 AND $3::date - 1
    AND end_date > $2
    AND (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($5::timestamptz, $6::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $7;

-- $1 states (empty: any), $2 and $3 the last row seen, $4 limit
-- name: bookings.list_recent
SELECT
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
FROM bookings
WHERE
    (cardinality($1::text[]) = 0 OR state = ANY($1))
    AND (create_time, id) < ($2::timestamptz, $3::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $4;
