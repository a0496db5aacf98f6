-- migrate:up transaction:false

-- Serves hand-out of failed payments for retry.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_payments_failed
ON payments (next_retry_time)
WHERE state = 'FAILED';

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_payments_failed;
