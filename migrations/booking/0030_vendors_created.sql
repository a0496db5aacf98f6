-- migrate:up transaction:false

-- Serves vendors.list: newest first, by keyset.
CREATE INDEX CONCURRENTLY IF NOT EXISTS vendors_created ON vendors (create_time DESC, id DESC);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS vendors_created;
