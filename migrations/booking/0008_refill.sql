-- migrate:up

-- How far the audit trail has been sent to the metrics again: one row once it was begun.
CREATE TABLE refill (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    from_time timestamptz,
    begin_time timestamptz NOT NULL,
    rebuild boolean NOT NULL,
    part text NOT NULL CHECK (part IN ('bookings', 'payments', 'done')),
    after text [] NOT NULL,
    seen bigint NOT NULL DEFAULT 0,
    sent bigint NOT NULL DEFAULT 0,
    rebuilt bigint NOT NULL DEFAULT 0,
    not_kept bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN refill.after IS
'The key of the last row that was read in this part; empty before the first.';

-- migrate:down

DROP TABLE refill;
