-- migrate:up transaction:false

-- Serves refunds.list_by_vendor: refunds of a vendor by state and age.
CREATE INDEX CONCURRENTLY IF NOT EXISTS refunds_vendor
ON refunds (vendor_id, state, create_time, id);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS refunds_vendor;
