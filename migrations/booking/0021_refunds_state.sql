-- migrate:up transaction:false

-- Serves refunds.list: refunds by state and age.
CREATE INDEX CONCURRENTLY IF NOT EXISTS refunds_state
ON refunds (state, create_time, id);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS refunds_state;
