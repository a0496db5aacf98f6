-- Deployments that were marked; see storage/deployments.py.

-- Returns who has marked it first.
-- $1 id, $2 version, $3 time, $4 identity
-- name: deployments.mark
INSERT INTO deployment (id, version, deployed_at, marked_by)
VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET version = excluded.version
RETURNING marked_by;

-- $1 how many are kept
-- name: deployments.forget
DELETE FROM deployment
WHERE id IN (SELECT id FROM deployment ORDER BY deployed_at DESC, id DESC OFFSET $1);

-- $1 id
-- name: deployments.get
SELECT id, version, deployed_at, marked_by FROM deployment WHERE id = $1;

-- Whether the alert engine has ever stored its state.
-- name: deployments.are_alerts_recorded
SELECT saved_at > '1970-01-01 00:00:00+00' FROM alert_head;

-- $1 since when, $2 limit
-- name: deployments.list_critical_alerts
SELECT rule, fire_time FROM alert
WHERE severity = 'CRITICAL' AND fire_time >= $1
ORDER BY fire_time, id
LIMIT $2;

-- $1 limit
-- name: deployments.list_newest
SELECT id, version, deployed_at, marked_by FROM deployment
ORDER BY deployed_at DESC, id DESC
LIMIT $1;
