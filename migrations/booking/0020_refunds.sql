-- migrate:up

-- Whom a refund is owed to, how it is paid out, and what of it was. Constant defaults: no table is
-- rewritten. A copy of before these columns that still runs stores the defaults: its refunds are due
-- at once.
ALTER TABLE refunds ADD COLUMN vendor_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE refunds ADD COLUMN provider text NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN provider_payment_id text NOT NULL DEFAULT '';
ALTER TABLE refunds ADD COLUMN paid_out_minor bigint NOT NULL DEFAULT 0;
ALTER TABLE refunds ADD COLUMN next_attempt_time timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z';
ALTER TABLE bookings ADD COLUMN refund_requested_minor bigint NOT NULL DEFAULT 0;

-- What was paid back of a payment went to its refunds in their order.
UPDATE refunds AS r
SET
    vendor_id = b.vendor_id,
    provider = p.provider,
    provider_payment_id = p.payment_id,
    paid_out_minor = greatest(0, least(r.amount_minor, p.refunded_minor - o.before_minor)),
    next_attempt_time = r.create_time
FROM payments AS p, bookings AS b, (
    SELECT
        id,
        sum(amount_minor) OVER (PARTITION BY payment_id ORDER BY create_time, id) - amount_minor
            AS before_minor
    FROM refunds
) AS o
WHERE r.payment_id = p.id AND r.booking_id = b.id AND r.id = o.id;

-- Refunds of payments that the booking could not take have the booking's state as their reason.
UPDATE refunds AS r SET reason = 'REFUND_DUE'
FROM payments AS p
WHERE r.payment_id = p.id AND p.state = 'REFUND_DUE';

UPDATE bookings AS b
SET refund_requested_minor = o.amount_minor
FROM (
    SELECT r.booking_id, sum(r.amount_minor) AS amount_minor
    FROM refunds AS r
    INNER JOIN payments AS p ON r.payment_id = p.id
    WHERE p.state <> 'REFUND_DUE'
    GROUP BY r.booking_id
) AS o
WHERE b.id = o.booking_id;

-- migrate:down

ALTER TABLE bookings DROP COLUMN refund_requested_minor;
ALTER TABLE refunds DROP COLUMN next_attempt_time;
ALTER TABLE refunds DROP COLUMN paid_out_minor;
ALTER TABLE refunds DROP COLUMN provider_payment_id;
ALTER TABLE refunds DROP COLUMN provider;
ALTER TABLE refunds DROP COLUMN vendor_id;
