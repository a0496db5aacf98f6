-- What a group of commands locks, loads and writes. Every array is sorted by key before it is sent,
-- so that all processes touch rows in one order.

-- $1 milliseconds
-- name: commands.set_lock_timeout internal
SELECT set_config('lock_timeout', $1, true);

-- $1 package ids
-- name: packages.lock
SELECT {package}
FROM packages
WHERE id = ANY($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE;

-- $1 package ids
-- name: packages.lock_free
SELECT {package}
FROM packages
WHERE id = ANY($1::uuid[])
ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED;

-- $1 package ids
-- name: packages.read
SELECT {package}
FROM packages
WHERE id = ANY($1::uuid[])
ORDER BY id;

-- Taken after the package locks, in the order of $1, which is sorted.
-- $1 keys of users and vendors
-- name: owners.lock
SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k;

-- $1 package ids; those in neither packages.lock_free nor this result do not exist
-- name: packages.existing
SELECT id FROM packages WHERE id = ANY($1::uuid[]);

-- $1 booking ids
-- name: bookings.packages_of
SELECT id, package_id, end_date - start_date AS days FROM bookings WHERE id = ANY($1::uuid[]);

-- $1 vendor ids
-- name: vendors.load
SELECT {vendor} FROM vendors WHERE id = ANY($1::uuid[]);

-- $1 callers, $2 RPCs, $3 request ids, $4 oldest time
-- name: idempotency.find
SELECT k.caller, k.rpc, k.request_id, k.fingerprint, k.answer
FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (caller, rpc, request_id)
INNER JOIN idempotency_keys AS k
    ON k.caller = w.caller AND k.rpc = w.rpc AND k.request_id = w.request_id
WHERE k.create_time > $4;

-- $1 booking ids
-- name: bookings.load
SELECT {booking}, captured_minor
FROM bookings
WHERE id = ANY($1::uuid[]);

-- $1 user ids, $2 now
-- name: bookings.load_live_of_users
SELECT {booking}, captured_minor
FROM bookings
WHERE
    user_id = ANY($1::text[])
    AND state IN ('HELD', 'PENDING_PAYMENT')
    AND hold_expire_time > $2;

-- Of each package those that overlap its days the longest, until they cost $5 together, and how many
-- there are.
-- $1 package ids, $2 first days, $3 days after the last, $4 now, $5 cost in days, $6 cost of a booking
-- beside its days
-- name: bookings.load_lapsed_overlapping
SELECT {b.booking}, b.captured_minor, b.lapsed
FROM unnest($1::uuid[], $2::date[], $3::date[]) AS w (package_id, first, until)
CROSS JOIN LATERAL (
    SELECT
        {l.booking},
        l.captured_minor,
        count(*) OVER () AS lapsed,
        sum(l.end_date - l.start_date + $6::int) OVER (
            ORDER BY least(l.end_date, w.until) - greatest(l.start_date, w.first) DESC, l.id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS cost_before
    FROM bookings AS l
    WHERE
        l.package_id = w.package_id
        AND l.state IN ('HELD', 'PENDING_PAYMENT')
        AND l.hold_expire_time <= $4
        AND l.start_date < w.until
        AND l.end_date > w.first
) AS b
WHERE coalesce(b.cost_before, 0) < $5::int;

-- $1 package ids, $2 now, $3 limit
-- name: bookings.load_lapsed
SELECT {booking}, captured_minor
FROM bookings
WHERE
    package_id = ANY($1::uuid[])
    AND state IN ('HELD', 'PENDING_PAYMENT')
    AND hold_expire_time <= $2
ORDER BY hold_expire_time
LIMIT $3;

-- $1 package ids, $2 dates on or before which a stay of the package is over, $3 limit
-- name: bookings.load_ended
SELECT {b.booking}, b.captured_minor
FROM unnest($1::uuid[], $2::date[]) AS w (package_id, today)
INNER JOIN bookings AS b
    ON b.package_id = w.package_id AND b.state = 'CONFIRMED' AND b.end_date <= w.today
LIMIT $3;

-- $1 package ids, $2 first days, $3 days after the last
-- name: inventory.load
SELECT d.package_id, d.day, d.capacity, d.held, d.confirmed
FROM unnest($1::uuid[], $2::date[], $3::date[]) AS w (package_id, first, until)
INNER JOIN package_days AS d
    ON d.package_id = w.package_id AND d.day >= w.first AND d.day < w.until;

-- $1 booking ids, $2 providers, $3 payment ids (the last two of one length)
-- name: payments.load
SELECT {payment}
FROM payments
WHERE booking_id = ANY($1::uuid[])
UNION
SELECT {p.payment}
FROM unnest($2::text[], $3::text[]) AS w (provider, payment_id)
INNER JOIN payments AS p ON p.provider = w.provider AND p.payment_id = w.payment_id;

-- $1 providers, $2 payment ids
-- name: payments.load_events
SELECT {e.payment_event}
FROM unnest($1::text[], $2::text[]) AS w (provider, payment_id)
INNER JOIN payment_events AS e ON e.provider = w.provider AND e.payment_id = w.payment_id;

-- $1 booking ids
-- name: refunds.load
SELECT {refund}
FROM refunds
WHERE booking_id = ANY($1::uuid[]);

-- $1 booking ids
-- name: reviews.load
SELECT {review}
FROM reviews
WHERE booking_id = ANY($1::uuid[]);

-- $1 user ids
-- name: profiles.load
SELECT {profile}
FROM user_profiles
WHERE user_id = ANY($1::text[]);

-- The first day on or after a date that is stored or taken, of each package in the order of $1.
-- $1 package ids, $2 dates, $3 longest stay in days
-- name: inventory.next_dates
SELECT
    least(
        (
            SELECT min(d.day) FROM package_days AS d
            WHERE d.package_id = w.package_id AND d.day >= w.first
        ),
        (
            SELECT greatest(b.start_date, w.first) FROM bookings AS b
            WHERE
                b.package_id = w.package_id
                AND b.start_date > w.first - $3::int
                AND b.end_date > w.first
                AND b.state IN ('HELD', 'PENDING_PAYMENT', 'CONFIRMED', 'FULFILLED')
            ORDER BY b.start_date
            LIMIT 1
        )
    ) AS day
FROM unnest($1::uuid[], $2::date[]) WITH ORDINALITY AS w (package_id, first, number)
ORDER BY w.number;

-- The stored counts of days, and the counts according to the bookings: each booking adds its units
-- on its first day and takes them away after its last one.
-- $1 package ids, $2 first days, $3 days after the last, $4 longest stay in days
-- name: inventory.recount
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::date[], $3::date[])
        WITH ORDINALITY AS w (package_id, first, until, number)
),

stored AS (
    SELECT w.number, d.day, d.capacity, d.held, d.confirmed
    FROM wanted AS w
    INNER JOIN package_days AS d
        ON d.package_id = w.package_id AND d.day >= w.first AND d.day < w.until
),

changes AS (
    SELECT
        w.number,
        c.day,
        sum(c.units) FILTER (WHERE b.state IN ('HELD', 'PENDING_PAYMENT')) AS held,
        sum(c.units) FILTER (WHERE b.state IN ('CONFIRMED', 'FULFILLED')) AS confirmed
    FROM wanted AS w
    INNER JOIN bookings AS b
        ON
            b.package_id = w.package_id
            AND b.start_date > w.first - $4::int
            AND b.start_date < w.until
            AND b.end_date > w.first
            AND b.state IN ('HELD', 'PENDING_PAYMENT', 'CONFIRMED', 'FULFILLED')
    CROSS JOIN LATERAL (
        VALUES (greatest(b.start_date, w.first), b.quantity), (b.end_date, -b.quantity)
    ) AS c (day, units)
    GROUP BY w.number, c.day
)

SELECT
    w.number,
    w.package_id,
    day.day::date AS day,
    coalesce(d.capacity, 0) AS capacity,
    coalesce(d.held, 0) AS held,
    coalesce(d.confirmed, 0) AS confirmed,
    d.day IS NOT NULL AS stored,
    coalesce(sum(c.held) OVER upto, 0)::integer AS recounted_held,
    coalesce(sum(c.confirmed) OVER upto, 0)::integer AS recounted_confirmed
FROM wanted AS w
CROSS JOIN LATERAL generate_series(w.first, w.until - 1, interval '1 day') AS day (day)
LEFT JOIN stored AS d ON d.number = w.number AND d.day = day.day::date
LEFT JOIN changes AS c ON c.number = w.number AND c.day = day.day::date
WINDOW upto AS (PARTITION BY w.number ORDER BY day.day);

-- name: vendors.create
INSERT INTO vendors ({vendor})
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[]);

-- $1 ids, $2 names, $3 versions, $4 times
-- name: vendors.update
UPDATE vendors AS v
SET name = w.name, version = w.version, update_time = w.update_time
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[])
    AS w (id, name, version, update_time)
WHERE v.id = w.id;

-- name: packages.create
INSERT INTO packages ({package})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::date[], $9::date[], $10::bigint[], $11::text[], $12::text[], $13::int[], $14::int[],
    $15::int[], $16::int[], $17::int[], $18::jsonb[], $19::bigint[], $20::timestamptz[],
    $21::timestamptz[], $22::int[], $23::int[], $24::int[]
);

-- name: packages.update
UPDATE packages AS p
SET
    title = w.title,
    type = w.type,
    location = w.location,
    status = w.status,
    bookable_from = w.bookable_from,
    bookable_until = w.bookable_until,
    base_price_minor = w.base_price_minor,
    min_party_size = w.min_party_size,
    max_party_size = w.max_party_size,
    max_party_per_unit = w.max_party_per_unit,
    cutoff_s = w.cutoff_s,
    hold_ttl_s = w.hold_ttl_s,
    cancellation_policy = w.cancellation_policy,
    version = w.version,
    update_time = w.update_time
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::date[], $7::date[],
    $8::bigint[], $9::int[], $10::int[], $11::int[], $12::int[], $13::int[], $14::jsonb[],
    $15::bigint[], $16::timestamptz[]
) AS w (
    id, title, type, location, status, bookable_from, bookable_until, base_price_minor,
    min_party_size, max_party_size, max_party_per_unit, cutoff_s, hold_ttl_s,
    cancellation_policy, version, update_time
)
WHERE p.id = w.id;

-- name: inventory.create
INSERT INTO package_days (package_id, day, capacity, held, confirmed)
SELECT * FROM unnest($1::uuid[], $2::date[], $3::int[], $4::int[], $5::int[]);

-- Counts are changed by differences, so that the CHECK applies to the stored values.
-- $1 package ids, $2 days, $3 more capacity, $4 more held, $5 more confirmed
-- name: inventory.change
UPDATE package_days AS d
SET
    capacity = d.capacity + w.capacity,
    held = d.held + w.held,
    confirmed = d.confirmed + w.confirmed
FROM unnest($1::uuid[], $2::date[], $3::int[], $4::int[], $5::int[])
    AS w (package_id, day, capacity, held, confirmed)
WHERE d.package_id = w.package_id AND d.day = w.day;

-- name: bookings.create
INSERT INTO bookings ({booking}, captured_minor)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::date[],
    $8::date[], $9::int[], $10::int[], $11::bigint[], $12::text[], $13::jsonb[],
    $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::text[],
    $19::bigint[], $20::bigint[], $21::bigint[], $22::timestamptz[], $23::timestamptz[],
    $24::bigint[], $25::int[], $26::bigint[], $27::bigint[]
);

-- name: bookings.update
UPDATE bookings AS b
SET
    state = w.state,
    start_date = w.start_date,
    end_date = w.end_date,
    price_minor = w.price_minor,
    cancellation_policy = w.cancellation_policy,
    hold_expire_time = w.hold_expire_time,
    complete_time = w.complete_time,
    confirm_time = w.confirm_time,
    end_time = w.end_time,
    end_reason = w.end_reason,
    refund_minor = w.refund_minor,
    refunded_minor = w.refunded_minor,
    version = w.version,
    update_time = w.update_time,
    balance_due_minor = w.balance_due_minor,
    extensions = w.extensions,
    refund_requested_minor = w.refund_requested_minor,
    captured_minor = w.captured_minor
FROM unnest(
    $1::uuid[], $2::text[], $3::date[], $4::date[], $5::bigint[], $6::jsonb[],
    $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[],
    $12::bigint[], $13::bigint[], $14::bigint[], $15::timestamptz[], $16::bigint[], $17::int[],
    $18::bigint[], $19::bigint[]
) AS w (
    id, state, start_date, end_date, price_minor, cancellation_policy, hold_expire_time,
    complete_time, confirm_time, end_time, end_reason, refund_minor, refunded_minor, version,
    update_time, balance_due_minor, extensions, refund_requested_minor, captured_minor
)
WHERE b.id = w.id;

-- name: bookings.create_events
INSERT INTO booking_events (
    booking_id, version, transition, from_state, to_state, reason, caller, request_id, event_time,
    fact
)
SELECT * FROM unnest(
    $1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
    $8::uuid[], $9::timestamptz[], $10::bytea[]
);

-- The ids keep the order of the arrays.
-- name: catalog_events.create
INSERT INTO catalog_events (
    vendor_id, package_id, change, fields, runs, days_left_out, caller, request_id, event_time
)
SELECT
    vendor_id, package_id, change, fields, runs, days_left_out, caller, request_id, event_time
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::jsonb[], $6::int[], $7::text[],
    $8::uuid[], $9::timestamptz[]
) WITH ORDINALITY AS w (
    vendor_id, package_id, change, fields, runs, days_left_out, caller, request_id, event_time, n
)
ORDER BY n;

-- name: payments.save
INSERT INTO payments ({payment})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[],
    $8::bigint[], $9::text[], $10::bigint[], $11::timestamptz[], $12::timestamptz[],
    $13::timestamptz[]
)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state,
    amount_minor = excluded.amount_minor,
    refunded_minor = excluded.refunded_minor,
    failure_code = excluded.failure_code,
    version = excluded.version,
    update_time = excluded.update_time,
    next_retry_time = excluded.next_retry_time;

-- name: payments.create_events
INSERT INTO payment_events ({payment_event}, fact, caller, request_id)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::text[],
    $8::timestamptz[], $9::bytea[], $10::text[], $11::uuid[]
);

-- Who requested a refund stays.
-- name: refunds.save
INSERT INTO refunds ({refund}, caller, request_id)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::uuid[], $11::text[], $12::text[], $13::bigint[],
    $14::timestamptz[], $15::text[], $16::uuid[]
)
ON CONFLICT (id) DO UPDATE SET
    state = excluded.state,
    update_time = excluded.update_time,
    paid_out_minor = excluded.paid_out_minor,
    next_attempt_time = excluded.next_attempt_time;

-- name: reviews.create
INSERT INTO reviews ({review})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::smallint[], $6::text[], $7::bigint[],
    $8::timestamptz[], $9::timestamptz[]
);

-- name: profiles.save
INSERT INTO user_profiles ({profile})
SELECT * FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
    $7::timestamptz[], $8::timestamptz[]
)
ON CONFLICT (user_id) DO UPDATE SET
    display_name = excluded.display_name,
    email = excluded.email,
    locale = excluded.locale,
    version = excluded.version,
    update_time = excluded.update_time;

-- name: idempotency.create
INSERT INTO idempotency_keys (slot, caller, rpc, request_id, fingerprint, answer, create_time)
SELECT * FROM unnest(
    $1::smallint[], $2::text[], $3::text[], $4::uuid[], $5::bytea[], $6::bytea[],
    $7::timestamptz[]
);

-- While facts are withheld, only how many they are and of when is kept.
-- $1 number of facts, $2 a serialised tracking.v1.EventList, $3 their time
-- name: outbox.append
WITH counted AS (
    INSERT INTO withheld (count, event_time)
    SELECT $1::integer, $3::timestamptz FROM relay WHERE withholding
)

INSERT INTO outbox (count, events)
SELECT $1::integer, $2::bytea FROM relay WHERE NOT withholding;
