-- migrate:up transaction:false

-- Serves packages.search: by dates alone, what is on sale for them. Most windows lie in the past,
-- hence their ends come first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_packages_availability
ON packages (status, bookable_until, bookable_from)
WHERE status = 'ACTIVE';

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_packages_availability;
