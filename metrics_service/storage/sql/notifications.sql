-- What targets have taken of alerts.
-- name: notifications.create
INSERT INTO alert_notification (alert_id, target, ordinal, change, sent_at)
SELECT alert_id, target, ordinal, change, sent_at
FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::timestamptz[])
    AS new (alert_id, target, ordinal, change, sent_at)
ON CONFLICT DO NOTHING;

-- name: notifications.list
SELECT alert_id, target, ordinal, change, sent_at
FROM alert_notification
WHERE alert_id = ANY($1::text[])
ORDER BY alert_id, target, ordinal;

-- name: notifications.remove
DELETE FROM alert_notification AS old
WHERE
    old.sent_at < $1
    AND NOT EXISTS (
        SELECT FROM alert_notification AS newer
        WHERE newer.alert_id = old.alert_id AND newer.sent_at >= $1
    );
