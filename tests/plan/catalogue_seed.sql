-- 2,000 packages, two months of their days, 50,000 bookings: what the plans are tried on.
SELECT setseed(0.5);

INSERT INTO vendors (id, name, version, create_time, update_time)
SELECT md5('vendor' || n)::uuid, 'Vendor ' || n, 1, '2025-01-01', '2025-01-01'
FROM generate_series(1, 100) AS n;

-- Forty places, five types; one in ten is closed, one in twenty sold without end, the others
-- for one of twelve seasons of a month, of which the last is to come.
INSERT INTO packages (
    id, vendor_id, title, type, location, time_zone, status, bookable_from, bookable_until,
    base_price_minor, currency, pricing, min_party_size, max_party_size, cutoff_s, hold_ttl_s,
    cancellation_policy, version, create_time, update_time
)
SELECT
    md5('package' || n)::uuid,
    md5('vendor' || 1 + n % 100)::uuid,
    'Package ' || n,
    'type ' || n % 5,
    'place ' || n % 40,
    'Europe/Lisbon',
    CASE WHEN n % 10 = 0 THEN 'CLOSED' ELSE 'ACTIVE' END,
    CASE WHEN n % 20 > 1 THEN '2025-06-20'::date + 30 * (n % 12) END,
    CASE WHEN n % 20 > 1 THEN '2025-07-20'::date + 30 * (n % 12) END,
    1000 + n * 7 % 5000,
    'EUR', 'PER_UNIT_DAY', 1, 4, 0, 900, '[]', 1,
    '2025-01-01'::timestamptz + n * interval '1 hour',
    '2025-01-01'
FROM generate_series(1, 2000) AS n;

INSERT INTO package_days (package_id, day, capacity, held, confirmed)
SELECT p.id, '2026-05-01'::date + d, 10, 1, 5
FROM packages AS p, generate_series(0, 60) AS d;

-- 2,500 users with twenty bookings each, over 18 months; one in a hundred is a live hold.
INSERT INTO bookings (
    id, package_id, vendor_id, user_id, session_id, state, start_date, end_date, quantity,
    party_size, price_minor, currency, cancellation_policy, hold_expire_time, complete_time,
    confirm_time, end_time, end_reason, refund_minor, refunded_minor, version, create_time,
    update_time
)
SELECT
    md5('booking' || n)::uuid,
    md5('package' || 1 + n * 7 % 2000)::uuid,
    md5('vendor' || 1 + n % 100)::uuid,
    'user ' || n % 2500,
    '',
    CASE
        WHEN n % 100 = 0 THEN 'HELD'
        ELSE (ARRAY['CONFIRMED', 'FULFILLED', 'CANCELLED', 'EXPIRED', 'ABANDONED'])[1 + n % 5]
    END,
    first, first + 1 + n % 7, 1, 2, 10000, 'EUR', '[]',
    CASE WHEN n % 100 = 0 THEN '2027-01-01' ELSE created + interval '15 minutes' END,
    NULL,
    CASE WHEN n % 5 < 3 AND n % 100 > 0 THEN created + interval '5 minutes' END,
    NULL, '', NULL, 0, 3, created, created
FROM generate_series(1, 50000) AS n,
    LATERAL (
        SELECT
            '2025-01-01'::timestamptz + n * interval '16 minutes' AS created,
            '2025-03-01'::date + (random() * 540)::int AS first
    ) AS made;

INSERT INTO payments (
    id, booking_id, provider, payment_id, state, amount_minor, currency, refunded_minor,
    failure_code, next_retry_time, version, create_time, update_time
)
SELECT
    md5('payment' || b.id)::uuid, b.id, 'provider', b.id::text, 'CAPTURED', 10000, 'EUR', 0, '',
    NULL, 1, b.create_time, b.create_time
FROM bookings AS b
WHERE b.confirm_time IS NOT NULL;

ANALYZE;
