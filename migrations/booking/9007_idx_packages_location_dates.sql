-- migrate:up transaction:false

-- Serves packages.search: by place and dates.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_packages_location_dates
ON packages (location, bookable_from, bookable_until, status);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_packages_location_dates;
