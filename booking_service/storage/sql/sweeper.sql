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
