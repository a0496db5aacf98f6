-- Alerts, their events and silences. Only the writer of the event log changes them: each transaction
-- begins with alerts.lead, which locks the head.

-- No row unless this process is the writer of the log and nobody else has taken over the alerts.
-- $1 epoch of the writer, $2 its epochs since it took them over
-- name: alerts.lead
UPDATE alert_head SET writer_epoch = $1
WHERE writer_epoch = ANY($2::bigint[]) AND EXISTS (SELECT FROM event_log_head WHERE writer_epoch = $1)
RETURNING true;

-- No row unless this process is the writer of the log.
-- $1 epoch of the writer
-- name: alerts.take
UPDATE alert_head SET writer_epoch = $1
WHERE writer_epoch <= $1 AND EXISTS (SELECT FROM event_log_head WHERE writer_epoch = $1)
RETURNING next_number, machine, saved_at;

-- $1 number of the next event, $2 state of the engine, $3 its time
-- name: alerts.advance
UPDATE alert_head SET next_number = $1, machine = $2, saved_at = $3;

-- name: alerts.saved_at
SELECT saved_at FROM alert_head;

-- $1 ids, $2 rules, $3 severities, $4 states, $5 labels, $6 summaries, $7 starts, $8 when they fired,
-- $9 when they were resolved, $10 time, $11 bodies, side by side
-- name: alerts.put
INSERT INTO alert (
    id, rule, severity, state, labels, summary, start_time, fire_time, resolve_time, changed_at, body
)
SELECT id, rule, severity, state, labels, summary, start_time, fire_time, resolve_time, $10, body
FROM unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::timestamptz[],
    $8::timestamptz[], $9::timestamptz[], $11::bytea[]
) AS new (id, rule, severity, state, labels, summary, start_time, fire_time, resolve_time, body)
ON CONFLICT (id) DO UPDATE SET
    severity = excluded.severity, state = excluded.state, labels = excluded.labels,
    summary = excluded.summary, fire_time = excluded.fire_time,
    resolve_time = excluded.resolve_time, body = excluded.body,
    changed_at = CASE
        WHEN alert.state = excluded.state THEN alert.changed_at ELSE excluded.changed_at
    END;

-- name: alerts.list_open
SELECT body FROM alert WHERE resolve_time IS NULL;

-- Those that have fired and are over, newest first.
-- $1 and $2 resolve_time and id of the one before, $3 limit
-- name: alerts.list_resolved
SELECT body FROM alert
WHERE state = 'RESOLVED' AND resolve_time <= $1 AND (resolve_time < $1 OR id > $2)
ORDER BY resolve_time DESC, id
LIMIT $3;

-- $1 id
-- name: alerts.get
SELECT body FROM alert WHERE id = $1;

-- $1 first instant that is kept, $2 most that are kept, $3 limit
-- name: alerts.forget
DELETE FROM alert WHERE id IN (
    SELECT id FROM alert WHERE resolve_time < greatest($1, (
        SELECT resolve_time FROM alert WHERE resolve_time IS NOT NULL
        ORDER BY resolve_time DESC, id OFFSET $2 - 1 LIMIT 1
    ))
    LIMIT $3
);

-- An event that is stored already stays as it is.
-- $1 numbers, $2 ids of alerts, $3 rules, $4 changes, $5 states, $6 times, $7 summaries, side by side
-- name: alert_events.add
INSERT INTO alert_event (number, alert_id, rule, change, state, event_time, summary)
SELECT number, alert_id, rule, change, state, event_time, summary
FROM unnest(
    $1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[]
) AS new (number, alert_id, rule, change, state, event_time, summary)
ON CONFLICT DO NOTHING;

-- $1 limit
-- name: alert_events.list_newest
SELECT number, alert_id, rule, change, state, event_time, summary FROM alert_event
ORDER BY number DESC
LIMIT $1;

-- $1 id of the alert, $2 limit
-- name: alert_events.list_of
SELECT number, alert_id, rule, change, state, event_time, summary FROM alert_event
WHERE alert_id = $1
ORDER BY number DESC
LIMIT $2;

-- Gives up the events before an instant and those beyond a number of them.
-- $1 first instant that is kept, $2 most that are kept, $3 most to give up at a time
-- name: alert_events.give_up
UPDATE alert_head SET first_number = least(first_number + $3, greatest(
    first_number,
    next_number - $2,
    coalesce(
        (SELECT number FROM alert_event WHERE event_time >= $1 ORDER BY number LIMIT 1), next_number
    )
))
RETURNING first_number;

-- $1 first number that is kept
-- name: alert_events.forget
DELETE FROM alert_event WHERE number < $1;

-- columns: silence = id, rule, labels, comment, created_by, create_time, end_time

-- $1 identity, $2 request
-- name: silences.find
SELECT {silence} FROM silence WHERE created_by = $1 AND request_id = $2;

-- $1 now
-- name: silences.count_active
SELECT count(*) FROM silence WHERE end_time > $1;

-- $1 id, $2 rule, $3 labels, $4 comment, $5 identity, $6 request, $7 now, $8 end
-- name: silences.create
INSERT INTO silence (id, rule, labels, comment, created_by, request_id, create_time, end_time)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING {silence};

-- $1 id, $2 now
-- name: silences.expire
UPDATE silence SET end_time = greatest(create_time, least(end_time, $2)) WHERE id = $1
RETURNING {silence};

-- $1 now
-- name: silences.list_active
SELECT {silence} FROM silence WHERE end_time > $1 ORDER BY create_time DESC, id;

-- Active ones first, then those that ended last.
-- $1 now, $2 whether those that have ended are wanted, $3 limit,
-- $4 whether the one before the page is active, $5 its time in the order, $6 its id
-- name: silences.list
SELECT {silence} FROM (
    SELECT {silence}, end_time > $1 AS active,
        CASE WHEN end_time > $1 THEN create_time ELSE end_time END AS at
    FROM silence WHERE $2 OR end_time > $1
) AS each
WHERE active < $4 OR (active = $4 AND (at < $5 OR (at = $5 AND id > $6)))
ORDER BY active DESC, at DESC, id
LIMIT $3;

-- $1 first instant that is kept, $2 now, $3 most that are kept after their end
-- name: silences.forget
DELETE FROM silence WHERE end_time < $1 OR id IN (
    SELECT id FROM silence WHERE end_time <= $2 ORDER BY end_time DESC, id OFFSET $3
);
