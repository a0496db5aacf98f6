-- As many bookings as the setting seed.bookings says, their packages, two months of days of those,
-- and what belongs to all of them: what the plans are tried on, with 200,000, and measured, with more.
SELECT setseed(0.5);
CREATE TEMP TABLE size AS
SELECT
    n AS bookings,
    n / 20 AS users,
    n / 100 AS packages,
    n / 2000 AS vendors,
    n / 5000 AS places,
    -- Apart from each other, so that they fill eighteen months.
    interval '800000 minutes' / n AS apart,
    -- Whether stays follow their bookings within months, as they do; else their dates have nothing to
    -- do with when they were booked, which is all that the planner can assume.
    current_setting('seed.booked_ahead')::boolean AS booked_ahead
FROM (SELECT current_setting('seed.bookings')::integer AS n) AS asked;
-- No row refers to one that is missing, and building an index once is quicker than adding to it row
-- by row: this halves the time.
SET session_replication_role = replica;
CREATE TEMP TABLE index_to_build AS
SELECT
    i.indexrelid::regclass::text AS name,
    pg_get_indexdef(i.indexrelid) AS definition,
    obj_description(i.indexrelid, 'pg_class') AS serves
FROM pg_index AS i
WHERE
    NOT i.indisunique
    AND i.indrelid IN ('bookings'::regclass, 'payments'::regclass, 'reviews'::regclass);
DO $$
DECLARE
    each record;
BEGIN
    FOR each IN SELECT name FROM index_to_build LOOP
        EXECUTE format('DROP INDEX %s', each.name);
    END LOOP;
END
$$;

INSERT INTO vendors (id, name, version, create_time, update_time)
SELECT md5('vendor' || n)::uuid, 'Vendor ' || n, 1, '2025-01-01', '2025-01-01'
FROM size, generate_series(1, size.vendors) AS n;

-- Fifty packages a place, five types; one in ten is closed, one in twenty sold without end, the others
-- for one of twelve seasons of a month, of which the last is to come.
INSERT INTO packages (
    id, vendor_id, title, type, location, time_zone, status, bookable_from, bookable_until,
    base_price_minor, currency, pricing, min_party_size, max_party_size, cutoff_s, hold_ttl_s,
    cancellation_policy, version, create_time, update_time
)
SELECT
    md5('package' || n)::uuid,
    md5('vendor' || 1 + n % size.vendors)::uuid,
    'Package ' || n,
    'type ' || n % 5,
    'place ' || n % size.places,
    'Europe/Lisbon',
    CASE WHEN n % 10 = 0 THEN 'CLOSED' ELSE 'ACTIVE' END,
    CASE WHEN n % 20 > 1 THEN '2025-06-20'::date + 30 * (n % 12) END,
    CASE WHEN n % 20 > 1 THEN '2025-07-20'::date + 30 * (n % 12) END,
    1000 + n * 7 % 5000,
    'EUR', 'PER_UNIT_DAY', 1, 4, 0, 900, '[]', 1,
    '2025-01-01'::timestamptz + n * interval '1 hour',
    '2025-01-01'
FROM size, generate_series(1, size.packages) AS n;

INSERT INTO package_days (package_id, day, capacity, held, confirmed)
SELECT p.id, '2026-05-01'::date + d, 10, 1, 5
FROM packages AS p, generate_series(0, 60) AS d;

-- Users with twenty bookings each, over 18 months; one in a hundred is a live hold. A
-- confirmed stay that is over is fulfilled.
INSERT INTO bookings (
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time, captured_minor
)
SELECT
    md5('booking' || n)::uuid,
    md5('package' || 1 + n::bigint * 7 % size.packages)::uuid,
    md5('vendor' || 1 + n % size.vendors)::uuid,
    'user ' || n % size.users,
    '',
    CASE
        WHEN n % 100 = 0 THEN 'HELD'
        WHEN n % 5 > 1 THEN (ARRAY['CANCELLED', 'EXPIRED', 'ABANDONED'])[n % 5 - 1]
        WHEN first + 1 + n % 7 <= '2026-03-01' THEN 'FULFILLED'
        ELSE 'CONFIRMED'
    END,
    first, first + 1 + n % 7, 1, 2, 10000, 'EUR', '[]',
    CASE WHEN n % 100 = 0 THEN '2027-01-01' ELSE created + interval '15 minutes' END,
    NULL,
    CASE WHEN n % 5 < 3 AND n % 100 > 0 THEN created + interval '5 minutes' END,
    NULL, '', NULL, 0, 3, created, created, CASE WHEN n % 5 < 3 AND n % 100 > 0 THEN 10000 ELSE 0 END
FROM size, generate_series(1, size.bookings) AS n,
    LATERAL (SELECT '2025-01-01'::timestamptz + n * size.apart AS created) AS booked,
    LATERAL (
        SELECT
            CASE
                WHEN size.booked_ahead THEN created::date + 1 + (120 * random() * random())::int
                ELSE '2025-03-01'::date + (random() * 540)::int
            END AS first
    ) AS made;

INSERT INTO booking_events (
    booking_id, version, transition, from_state, to_state, reason, caller, request_id, event_time
)
SELECT b.id, 1, 'STARTED', NULL, 'HELD', '', 'web', NULL, b.create_time
FROM bookings AS b;

INSERT INTO payments (
    id, booking_id, provider, payment_id, state, amount_minor, currency, refunded_minor,
    failure_code, next_retry_time, version, create_time, update_time
)
SELECT
    md5('payment' || b.id)::uuid, b.id, 'provider', b.id::text, 'CAPTURED', 10000, 'EUR', 0, '',
    NULL, 1, b.create_time, b.create_time
FROM bookings AS b
WHERE b.confirm_time IS NOT NULL;

-- Of the holds that ran out, one in ten was not paid; most of those have been tried again in vain.
INSERT INTO payments (
    id, booking_id, provider, payment_id, state, amount_minor, currency, refunded_minor,
    failure_code, next_retry_time, version, create_time, update_time
)
SELECT
    md5('failed' || n)::uuid, md5('booking' || n)::uuid, 'provider', 'failed ' || n, 'FAILED', 10000,
    'EUR', 0, 'declined',
    CASE WHEN n % 500 = 3 THEN '2026-02-01'::timestamptz + n * size.apart / 4 END,
    2, '2026-02-01', '2026-02-01'
FROM size, generate_series(3, size.bookings, 50) AS n;

-- Prices and capacities that changed now and then.
INSERT INTO catalog_events (
    vendor_id, package_id, change, fields, runs, days_left_out, caller, event_time
)
SELECT
    p.vendor_id, p.id, 'PACKAGE_UPDATED', '[["base_price_minor", "8000", "8100"]]', '[]', 0, 'web',
    '2025-01-01'::timestamptz + n * interval '1 day'
FROM generate_series(1, 12) AS n
CROSS JOIN packages AS p;

INSERT INTO payment_events (
    provider, payment_id, kind, refund_id, booking_id, amount_minor, currency, event_time
)
SELECT p.provider, p.payment_id, p.state, '', p.booking_id, p.amount_minor, p.currency, p.create_time
FROM payments AS p;

-- All but those of the last month are paid out.
INSERT INTO refunds (
    id, booking_id, payment_id, state, amount_minor, currency, reason, create_time, update_time,
    vendor_id, provider, provider_payment_id, paid_out_minor, next_attempt_time
)
SELECT
    md5('refund' || b.id)::uuid, b.id, md5('payment' || b.id)::uuid,
    CASE WHEN b.create_time < '2026-02-01' THEN 'COMPLETED' ELSE 'REQUESTED' END, 5000, 'EUR',
    'CANCELLED', b.create_time, b.create_time, b.vendor_id, 'provider', b.id::text,
    CASE WHEN b.create_time < '2026-02-01' THEN 5000 ELSE 0 END, b.create_time
FROM bookings AS b
WHERE b.state = 'CANCELLED' AND b.confirm_time IS NOT NULL;

INSERT INTO reviews (
    id, booking_id, package_id, user_id, rating, body, version, create_time, update_time
)
SELECT
    md5('review' || b.id)::uuid, b.id, b.package_id, b.user_id, 1 + (random() * 4)::int, 'Fine.', 1,
    b.create_time, b.create_time
FROM bookings AS b
WHERE b.state = 'FULFILLED';

INSERT INTO user_profiles (
    id, user_id, display_name, email, locale, version, create_time, update_time
)
SELECT
    md5('profile' || n)::uuid, 'user ' || n, 'User ' || n, n || '@example.org', 'pt-PT', 1,
    '2025-01-01', '2025-01-01'
FROM size, generate_series(0, size.users - 1) AS n;

-- A day of answers: seven of the eight slots.
INSERT INTO idempotency_keys (slot, caller, rpc, request_id, fingerprint, answer, create_time)
SELECT n % 7, 'web', 'StartBooking', md5('request' || n)::uuid, '', '', '2026-03-01'
FROM generate_series(1, 21000) AS n;

DO $$
DECLARE
    each record;
BEGIN
    FOR each IN SELECT name, definition, serves FROM index_to_build LOOP
        EXECUTE each.definition;
        EXECUTE format('COMMENT ON INDEX %s IS %L', each.name, each.serves);
    END LOOP;
END
$$;
