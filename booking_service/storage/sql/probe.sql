-- name: probe.ping internal
SELECT 1;

-- name: probe.schema internal
SELECT EXISTS (SELECT FROM schema_migrations WHERE version = $1);

-- name: probe.server_version internal
SELECT current_setting('server_version_num')::integer;
