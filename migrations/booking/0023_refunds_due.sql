-- migrate:up transaction:false

-- Serves refunds.find_due: refunds to be paid out, hand-out.
CREATE INDEX CONCURRENTLY IF NOT EXISTS refunds_due
ON refunds (next_attempt_time, id)
WHERE state = 'REQUESTED';

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS refunds_due;
