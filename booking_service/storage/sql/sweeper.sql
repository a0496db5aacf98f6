-- $1 now, $2 limit
-- name: sweeper.lapsed_packages internal
SELECT package_id, count(*) AS due
FROM bookings
WHERE state IN ('HELD', 'PENDING_PAYMENT') AND hold_expire_time <= $1
GROUP BY package_id
ORDER BY min(hold_expire_time)
LIMIT $2;

-- Packages with a confirmed stay whose end date has been reached in some time zone; the caller checks
-- it in the package's own.
-- $1 the latest current date of all time zones, $2 limit
-- name: sweeper.ended_packages internal
SELECT b.package_id, p.time_zone, min(b.end_date) AS end_date, count(*) AS due
FROM bookings AS b
INNER JOIN packages AS p ON b.package_id = p.id
WHERE b.state = 'CONFIRMED' AND b.end_date <= $1
GROUP BY b.package_id, p.time_zone
ORDER BY min(b.end_date)
LIMIT $2;

-- name: sweeper.slot_in_use internal
SELECT EXISTS (SELECT FROM idempotency_keys WHERE slot = $1) AS in_use;

-- name: sweeper.empty_slot internal
SELECT empty_idempotency_slot($1);

-- The packages after one, by id, with what their reviews and bookings say now.
-- $1 last package seen, $2 limit, $3 earliest confirmation
-- name: sweeper.scores internal
SELECT
    p.id,
    r.review_count,
    r.rating_hundredths,
    b.popularity,
    (p.review_count, p.rating_hundredths, p.popularity)
    != (r.review_count, r.rating_hundredths, b.popularity) AS changed
FROM (
    SELECT id, review_count, rating_hundredths, popularity
    FROM packages
    WHERE id > $1
    ORDER BY id
    LIMIT $2
) AS p
CROSS JOIN LATERAL (
    SELECT
        count(*)::integer AS review_count,
        coalesce(round(avg(rating) * 100), 0)::integer AS rating_hundredths
    FROM reviews
    WHERE package_id = p.id
) AS r
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS popularity
    FROM bookings
    WHERE package_id = p.id AND state IN ('CONFIRMED', 'FULFILLED') AND confirm_time >= $3
) AS b
ORDER BY p.id;

-- Packages that are locked keep what they have until the next time.
-- $1 package ids, $2 numbers of reviews, $3 ratings, $4 popularities
-- name: sweeper.save_scores internal
WITH free AS (
    SELECT id FROM packages WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE packages AS p
SET
    review_count = w.review_count,
    rating_hundredths = w.rating_hundredths,
    popularity = w.popularity
FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[])
    AS w (id, review_count, rating_hundredths, popularity)
INNER JOIN free AS f ON w.id = f.id
WHERE p.id = w.id;
