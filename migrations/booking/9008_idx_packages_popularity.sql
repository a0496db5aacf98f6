-- migrate:up transaction:false

-- Serves packages.search: by type, recommendations.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_packages_popularity
ON packages (type, status, create_time DESC);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_packages_popularity;
