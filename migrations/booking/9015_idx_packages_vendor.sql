-- migrate:up transaction:false

-- Serves packages.list_by_vendor: a vendor's packages.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_packages_vendor
ON packages (vendor_id, status);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_packages_vendor;
