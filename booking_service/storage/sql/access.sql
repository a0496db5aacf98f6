-- One row for each change of who may call, as its process found it; repeated until it is stored.
-- name: access_events.create internal
INSERT INTO access_events (
    id, event_time, instance, change, file_sha256, identities, added, removed, changed, left_out
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING;
