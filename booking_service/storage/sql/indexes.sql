-- $1 names of indexes
-- name: indexes.states internal
SELECT
    wanted.name,
    i.indexrelid IS NOT NULL AS present,
    coalesce(i.indisvalid AND i.indisready, FALSE) AS valid,
    coalesce(pg_relation_size(i.indexrelid), 0) AS size_bytes,
    coalesce(pg_stat_get_numscans(i.indexrelid), 0) AS scans,
    coalesce(obj_description(i.indexrelid, 'pg_class'), '') AS serves,
    EXISTS (
        SELECT FROM pg_stat_progress_create_index AS p WHERE p.index_relid = i.indexrelid
    ) AS building
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, position)
LEFT JOIN pg_index AS i ON i.indexrelid = to_regclass(wanted.name)
ORDER BY wanted.position;

-- name: indexes.newest_migration internal
SELECT max(version) AS version
FROM schema_migrations;
