-- $1 names
-- name: database.count_tables
SELECT count(to_regclass(name)) FROM unnest($1::text[]) AS name;
