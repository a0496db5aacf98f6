-- The sessions: changed in the transaction of the checkpoint, read on a connection of their own.

-- name: sessions.get_name_key
SELECT name_key FROM checkpoint;

-- name: sessions.remove_all
TRUNCATE session, session_booking;

-- $1 number
-- name: sessions.remove_after
DELETE FROM session WHERE number > $1;

-- $1 number
-- name: sessions.remove_bookings_after
DELETE FROM session_booking WHERE number > $1;

-- $1 numbers, $2 names, $3 entries, $4 steps, $5 abandoned, $6 ahead, $7 packages, $8 last times,
-- $9 events, $10 parts, side by side, $11 day
-- name: sessions.add
INSERT INTO session (
    number, name, entry_us, steps, abandoned, ahead, package_id, last_us, events, parts, firsts,
    received_on
)
SELECT
    number, name, entry_us, steps, abandoned, ahead, package_id, last_us, events,
    CASE WHEN part = '' THEN ARRAY[]::text[] ELSE ARRAY[part] END,
    CASE WHEN part = '' THEN ARRAY[]::integer[] ELSE ARRAY[0] END, $11
FROM unnest(
    $1::bigint[], $2::text[], $3::bigint[], $4::smallint[], $5::boolean[], $6::boolean[],
    $7::text[], $8::bigint[], $9::integer[], $10::text[]
) AS new (
    number, name, entry_us, steps, abandoned, ahead, package_id, last_us, events, part
);

-- The parts that begin before the new one stay.
-- $1 numbers, $2 index of the first event of the part, $3 entries, $4 steps, NULL where the chain is the same,
-- $5 abandoned, $6 ahead, $7 packages, $8 last times, $9 events, $10 parts, side by side, $11 day
-- name: sessions.change
UPDATE session AS old
SET entry_us = CASE WHEN new.steps IS NULL THEN old.entry_us ELSE new.entry_us END,
    steps = coalesce(new.steps, old.steps),
    abandoned = CASE WHEN new.steps IS NULL THEN old.abandoned ELSE new.abandoned END,
    ahead = old.ahead OR new.ahead,
    package_id = CASE WHEN new.package_id = '' THEN old.package_id ELSE new.package_id END,
    last_us = greatest(old.last_us, new.last_us),
    events = new.events,
    parts = old.parts[1:width_bucket(new.first - 1, old.firsts)]
        || CASE WHEN new.part = '' THEN ARRAY[]::text[] ELSE ARRAY[new.part] END,
    firsts = old.firsts[1:width_bucket(new.first - 1, old.firsts)]
        || CASE WHEN new.part = '' THEN ARRAY[]::integer[] ELSE ARRAY[new.first] END,
    received_on = $11
FROM unnest(
    $1::bigint[], $2::integer[], $3::bigint[], $4::smallint[], $5::boolean[], $6::boolean[],
    $7::text[], $8::bigint[], $9::integer[], $10::text[]
) AS new (
    number, first, entry_us, steps, abandoned, ahead, package_id, last_us, events, part
)
WHERE old.number = new.number;

-- $1 bookings, $2 numbers, side by side
-- name: sessions.add_bookings
INSERT INTO session_booking (booking_id, number)
SELECT booking_id, number
FROM unnest($1::text[], $2::bigint[]) AS new (booking_id, number)
ON CONFLICT DO NOTHING;

-- Forget at most $2 sessions whose newest event was received before a day.
-- $1 day, $2 number of them
-- name: sessions.forget
WITH old AS (
    DELETE FROM session
    WHERE number IN (SELECT number FROM session WHERE received_on < $1 LIMIT $2)
    RETURNING number
), bookings AS (
    DELETE FROM session_booking WHERE number IN (SELECT number FROM old)
)
SELECT count(*) FROM old;

-- The state that the rows are of: the head of the checkpoint.
-- name: sessions.get_head
SELECT state FROM checkpoint_bucket WHERE section = 'head';

-- $1 first entry, $2 first entry beyond, $3 least steps, $4 most steps, $5 abandoned, or NULL,
-- $6 an open chain that began before this is abandoned, $7 also those ahead
-- name: sessions.count
SELECT count(*) FROM session
WHERE steps > 0 AND entry_us >= $1 AND entry_us < $2 AND steps BETWEEN $3 AND $4
    AND (NOT ahead OR $7)
    AND ($5::boolean IS NULL OR (abandoned OR entry_us < $6) = $5);

-- $1 to $7 as in count, $8 entry and $9 number after which the page begins, $10 most sessions
-- name: sessions.list
SELECT
    number, name, entry_us, steps, abandoned, package_id, last_us, events,
    ARRAY(
        SELECT booking_id FROM session_booking
        WHERE session_booking.number = session.number ORDER BY booking_id LIMIT 16
    ) AS booking_ids
FROM session
WHERE steps > 0 AND entry_us >= $1 AND entry_us < $2 AND steps BETWEEN $3 AND $4
    AND (NOT ahead OR $7)
    AND ($5::boolean IS NULL OR (abandoned OR entry_us < $6) = $5)
    AND (entry_us, number) < ($8, $9)
ORDER BY entry_us DESC, number DESC
LIMIT $10;

-- The session that a booking belongs to: the one whose events named it first.
-- $1 booking
-- name: sessions.find_name
SELECT name FROM session
INNER JOIN session_booking USING (number)
WHERE booking_id = $1
ORDER BY number LIMIT 1;

-- $1 name
-- name: sessions.totals
SELECT count(*) AS visits, sum(events)::bigint AS events, max(last_us) AS last_us
FROM session WHERE name = $1;

-- The visit that went furthest, the newest of those.
-- $1 name
-- name: sessions.best
SELECT
    number, name, entry_us, steps, abandoned, package_id, last_us, events,
    ARRAY(
        SELECT DISTINCT booking_id FROM session_booking
        INNER JOIN session AS each USING (number)
        WHERE each.name = $1 ORDER BY booking_id LIMIT 16
    ) AS booking_ids
FROM session WHERE name = $1
ORDER BY steps DESC, number DESC LIMIT 1;

-- The parts of the first visits, up to the one with the event $2.
-- $1 name, $2 number of events
-- name: sessions.parts
SELECT parts FROM (
    SELECT
        number, parts,
        coalesce(sum(least(events, $2)) OVER (
            ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS before
    FROM session WHERE name = $1 ORDER BY number LIMIT $2
) AS visits
WHERE before < $2 ORDER BY number;
