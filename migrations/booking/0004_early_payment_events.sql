-- migrate:up

-- Payment events of bookings that do not exist yet; applied once they do.
CREATE TABLE early_payment_events (
    booking_id uuid NOT NULL,
    provider text NOT NULL,
    payment_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('AUTHORISED', 'CAPTURED', 'FAILED', 'REFUNDED')),
    refund_id text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    failure_code text NOT NULL,
    caller text NOT NULL,
    receive_time timestamptz NOT NULL,
    refusal text NOT NULL DEFAULT '',
    PRIMARY KEY (booking_id, provider, payment_id, kind, refund_id)
);
COMMENT ON COLUMN early_payment_events.refusal IS
'Why the event could not be applied when its booking had come; empty while it waits.';
CREATE INDEX early_payment_events_received ON early_payment_events (receive_time);

-- migrate:down

DROP TABLE early_payment_events;
