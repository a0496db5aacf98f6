-- What is kept beside the state for years: hours, days, their figures, and totals.

-- The generation that the transaction of a checkpoint makes, whose history_position moves with it.
-- name: history.advance
UPDATE checkpoint SET history_position = greatest(history_position, position)
RETURNING generation;

-- $1 hour
-- name: history.remove_hours_from
DELETE FROM history_hour WHERE hour >= $1;

-- $1 day
-- name: history.remove_days_from
DELETE FROM history_day WHERE day >= $1;

-- $1 day
-- name: history.remove_figures_from
DELETE FROM history_day_figures WHERE day >= $1;

-- $1 hours, $2 sections, side by side
-- name: history.hours_of
SELECT old.hour, old.section, old.state, old.state_version
FROM unnest($1::timestamptz[], $2::text[]) AS wanted (hour, section)
INNER JOIN history_hour AS old USING (hour, section);

-- $1 days, $2 sections, side by side
-- name: history.days_of
SELECT old.day, old.section, old.state, old.state_version
FROM unnest($1::date[], $2::text[]) AS wanted (day, section)
INNER JOIN history_day AS old USING (day, section);

-- $1 hours, $2 sections, $3 states, $4 versions, side by side
-- name: history.put_hours
INSERT INTO history_hour (hour, section, state, state_version)
SELECT new.hour, new.section, new.state, new.state_version
FROM unnest($1::timestamptz[], $2::text[], $3::bytea[], $4::integer[])
    AS new (hour, section, state, state_version)
ON CONFLICT (hour, section) DO UPDATE
SET state = excluded.state, state_version = excluded.state_version;

-- $1 days, $2 sections, $3 states, $4 versions, side by side
-- name: history.put_days
INSERT INTO history_day (day, section, state, state_version)
SELECT new.day, new.section, new.state, new.state_version
FROM unnest($1::date[], $2::text[], $3::bytea[], $4::integer[])
    AS new (day, section, state, state_version)
ON CONFLICT (day, section) DO UPDATE
SET state = excluded.state, state_version = excluded.state_version;

-- $1 days, $2 metrics, $3 dimensions, side by side
-- name: history.remove_figures
DELETE FROM history_day_figures AS old
USING unnest($1::date[], $2::text[], $3::text[]) AS gone (day, metric, dimension)
WHERE old.day = gone.day AND old.metric = gone.metric AND old.dimension = gone.dimension;

-- $1 days, $2 metrics, $3 dimensions, $4 keys, $5 numerators, $6 denominators, $7 values
-- name: history.put_figures
INSERT INTO history_day_figures (day, metric, dimension, key, numerator, denominator, value)
SELECT new.day, new.metric, new.dimension, new.key, new.numerator, new.denominator, new.value
FROM unnest(
    $1::date[], $2::text[], $3::text[], $4::text[], $5::double precision[],
    $6::double precision[], $7::double precision[]
) AS new (day, metric, dimension, key, numerator, denominator, value);

-- $1 section, $2 first hour, $3 the hour after the last, $4 limit
-- name: history.read_hours
SELECT hour AS begin, state, state_version FROM history_hour
WHERE section = $1 AND hour >= $2 AND hour < $3
ORDER BY hour LIMIT $4;

-- $1 section, $2 first day, $3 the day after the last, $4 limit
-- name: history.read_days
SELECT day AS begin, state, state_version FROM history_day
WHERE section = $1 AND day >= $2 AND day < $3
ORDER BY day LIMIT $4;

-- name: history.bounds
SELECT
    (SELECT min(day) FROM history_day) AS first_day, (SELECT max(day) FROM history_day) AS last_day,
    (SELECT min(hour) FROM history_hour) AS first_hour,
    (SELECT max(hour) FROM history_hour) AS last_hour,
    (SELECT received_at FROM event_log ORDER BY position LIMIT 1) AS first_received;

-- $1 day
-- name: history.read_figures
SELECT metric, dimension, key, numerator, denominator, value FROM history_day_figures
WHERE day = $1
ORDER BY metric, dimension, key;

-- $1 first hour, $2 the hour after the last
-- name: history.read_all_hours
SELECT hour, section, state FROM history_hour WHERE hour >= $1 AND hour < $2
ORDER BY hour, section;

-- By the newest hour, not the clock: one that jumps forgets nothing.
-- $1 days
-- name: history.forget_hours
DELETE FROM history_hour
WHERE hour < (SELECT max(hour) FROM history_hour) - make_interval(days => $1);

-- $1 days
-- name: history.forget_days
DELETE FROM history_day WHERE day < (SELECT max(day) FROM history_day) - $1::integer;

-- $1 days
-- name: history.forget_figures
DELETE FROM history_day_figures
WHERE day < (SELECT max(day) FROM history_day_figures) - $1::integer;

-- The day of a record whose totals are not kept by this version of the code.
-- $1 position, $2 version
-- name: totals.day_without
SELECT (received_at AT TIME ZONE 'UTC')::date AS day FROM event_log
WHERE position = $1 AND NOT EXISTS (
    SELECT FROM history_total
    WHERE received_on = (received_at AT TIME ZONE 'UTC')::date AND state_version = $2
);

-- $1 day, $2 position, $3 version
-- name: totals.keep
INSERT INTO history_total (received_on, position, state_version, sections, states)
SELECT $1, $2, $3, coalesce(array_agg(section), '{}'), coalesce(array_agg(state), '{}')
FROM checkpoint_bucket WHERE section = 'head' OR section LIKE '%.total'
ON CONFLICT (received_on) DO UPDATE
SET position = excluded.position, state_version = excluded.state_version,
    sections = excluded.sections, states = excluded.states;

-- Those that the log does not go on from.
-- name: totals.forget
DELETE FROM history_total WHERE position < (SELECT min(position) FROM event_log) - 1;

-- Where a fold of the log begins, and the oldest totals that it can go on from.
-- name: totals.begin
SELECT
    (SELECT history_position FROM checkpoint) AS known_to,
    (SELECT min(position) FROM event_log) AS first,
    (SELECT min(received_at) FROM event_log) AS received_at,
    kept.sections, kept.states
FROM (SELECT) AS one LEFT JOIN (
    SELECT position, sections, states FROM history_total
    WHERE position >= (SELECT min(position) FROM event_log) - 1 AND cardinality(sections) > 0
    ORDER BY position LIMIT 1
) AS kept ON true;
