-- migrate:up

CREATE TABLE vendors (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    version bigint NOT NULL CHECK (version > 0),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);

CREATE TABLE packages (
    id uuid PRIMARY KEY,
    vendor_id uuid NOT NULL REFERENCES vendors (id),
    title text NOT NULL,
    type text NOT NULL,
    location text NOT NULL,
    time_zone text NOT NULL,
    status text NOT NULL CHECK (status IN ('ACTIVE', 'CLOSED')),
    bookable_from date,
    bookable_until date,
    base_price_minor bigint NOT NULL CHECK (base_price_minor >= 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    pricing text NOT NULL CHECK (pricing IN ('PER_UNIT_DAY', 'QUOTED')),
    min_party_size integer NOT NULL CHECK (min_party_size >= 1),
    max_party_size integer NOT NULL,
    cutoff_s integer NOT NULL CHECK (cutoff_s >= 0),
    hold_ttl_s integer NOT NULL CHECK (hold_ttl_s > 0),
    cancellation_policy jsonb NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CHECK (min_party_size <= max_party_size),
    CHECK (bookable_from < bookable_until)
);
COMMENT ON COLUMN packages.cancellation_policy IS
'Tiers as [[before_s, refund_basis_points], ...], longest before first.';

-- The only record of free units. The CHECK is the second guard after the package lock.
CREATE TABLE package_days (
    package_id uuid NOT NULL REFERENCES packages (id),
    day date NOT NULL,
    capacity integer NOT NULL,
    held integer NOT NULL,
    confirmed integer NOT NULL,
    PRIMARY KEY (package_id, day),
    CONSTRAINT package_days_never_oversold
    CHECK (held >= 0 AND confirmed >= 0 AND held + confirmed <= capacity)
) WITH (fillfactor = 70);

CREATE TABLE bookings (
    id uuid PRIMARY KEY,
    package_id uuid NOT NULL REFERENCES packages (id),
    vendor_id uuid NOT NULL,
    user_id text NOT NULL,
    session_id text NOT NULL,
    state text NOT NULL CHECK (
        state IN (
            'HELD', 'PENDING_PAYMENT', 'CONFIRMED', 'FULFILLED',
            'CANCELLED', 'ABANDONED', 'EXPIRED', 'FAILED'
        )
    ),
    start_date date NOT NULL,
    end_date date NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    party_size integer NOT NULL CHECK (party_size > 0),
    price_minor bigint NOT NULL CHECK (price_minor >= 0),
    currency text NOT NULL,
    cancellation_policy jsonb NOT NULL,
    hold_expire_time timestamptz NOT NULL,
    complete_time timestamptz,
    confirm_time timestamptz,
    end_time timestamptz,
    end_reason text NOT NULL,
    refund_minor bigint CHECK (refund_minor BETWEEN 0 AND price_minor),
    refunded_minor bigint NOT NULL CHECK (refunded_minor >= 0),
    version bigint NOT NULL CHECK (version > 0),
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CHECK (start_date < end_date)
) WITH (fillfactor = 80);

-- What the locking path itself needs: the lapsed holds of a package, the stays
-- of a package that have ended.
CREATE INDEX bookings_live_holds ON bookings (package_id, hold_expire_time)
WHERE state IN ('HELD', 'PENDING_PAYMENT');
CREATE INDEX bookings_lapsed ON bookings (hold_expire_time)
WHERE state IN ('HELD', 'PENDING_PAYMENT');
CREATE INDEX bookings_user_live ON bookings (user_id)
WHERE state IN ('HELD', 'PENDING_PAYMENT');
CREATE INDEX bookings_confirmed_end ON bookings (end_date, package_id)
WHERE state = 'CONFIRMED';

CREATE TABLE booking_events (
    booking_id uuid NOT NULL REFERENCES bookings (id),
    version bigint NOT NULL,
    transition text NOT NULL,
    from_state text,
    to_state text NOT NULL,
    reason text NOT NULL,
    caller text NOT NULL,
    request_id uuid,
    event_time timestamptz NOT NULL,
    PRIMARY KEY (booking_id, version)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', tg_table_name USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER booking_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON booking_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE payments (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings (id),
    provider text NOT NULL,
    payment_id text NOT NULL,
    state text NOT NULL CHECK (
        state IN (
            'AUTHORISED', 'CAPTURED', 'FAILED', 'REFUND_DUE', 'REFUNDED',
            'PARTIALLY_REFUNDED'
        )
    ),
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    currency text NOT NULL,
    refunded_minor bigint NOT NULL CHECK (refunded_minor BETWEEN 0 AND amount_minor),
    failure_code text NOT NULL,
    next_retry_time timestamptz,
    version bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT payments_provider_key UNIQUE (provider, payment_id)
);

-- Payment events of providers, each once.
CREATE TABLE payment_events (
    provider text NOT NULL,
    payment_id text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('AUTHORISED', 'CAPTURED', 'FAILED', 'REFUNDED')),
    refund_id text NOT NULL,
    booking_id uuid NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    event_time timestamptz NOT NULL,
    PRIMARY KEY (provider, payment_id, kind, refund_id)
);

CREATE TABLE refunds (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings (id),
    payment_id uuid NOT NULL REFERENCES payments (id),
    state text NOT NULL CHECK (state IN ('REQUESTED', 'COMPLETED')),
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency text NOT NULL,
    reason text NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);
CREATE INDEX refunds_booking ON refunds (booking_id);

CREATE TABLE reviews (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings (id),
    package_id uuid NOT NULL REFERENCES packages (id),
    user_id text NOT NULL,
    rating smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    body text NOT NULL,
    version bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT reviews_one_per_booking UNIQUE (booking_id)
);

CREATE TABLE user_profiles (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    display_name text NOT NULL,
    email text NOT NULL,
    locale text NOT NULL,
    version bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT user_profiles_one_per_user UNIQUE (user_id)
);

-- First answers by request id, kept 24 hours. A slot holds four hours; of the
-- eight, seven cover a day and the eighth is emptied (TRUNCATE) before its turn
-- comes. A look-up probes every partition, hence few and long ones.
CREATE TABLE idempotency_keys (
    slot smallint NOT NULL,
    caller text NOT NULL,
    rpc text NOT NULL,
    request_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    answer bytea NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (caller, rpc, request_id, slot)
) PARTITION BY LIST (slot);
CREATE TABLE idempotency_keys_0 PARTITION OF idempotency_keys FOR VALUES IN (0);
CREATE TABLE idempotency_keys_1 PARTITION OF idempotency_keys FOR VALUES IN (1);
CREATE TABLE idempotency_keys_2 PARTITION OF idempotency_keys FOR VALUES IN (2);
CREATE TABLE idempotency_keys_3 PARTITION OF idempotency_keys FOR VALUES IN (3);
CREATE TABLE idempotency_keys_4 PARTITION OF idempotency_keys FOR VALUES IN (4);
CREATE TABLE idempotency_keys_5 PARTITION OF idempotency_keys FOR VALUES IN (5);
CREATE TABLE idempotency_keys_6 PARTITION OF idempotency_keys FOR VALUES IN (6);
CREATE TABLE idempotency_keys_7 PARTITION OF idempotency_keys FOR VALUES IN (7);

-- One row a transaction: its facts as a serialised tracking.v1.EventList.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    count integer NOT NULL CHECK (count > 0),
    events bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

-- Outbox rows sealed into numbered batches; kept for a time after their ack.
CREATE TABLE segment (
    seq bigint PRIMARY KEY,
    epoch bigint NOT NULL,
    count integer NOT NULL CHECK (count > 0),
    batch bytea NOT NULL,
    batch_hash bytea NOT NULL,
    seal_time timestamptz NOT NULL
);

-- One row: who may seal, and the next dense number.
CREATE TABLE relay (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    producer_id uuid NOT NULL,
    epoch bigint NOT NULL,
    next_seq bigint NOT NULL,
    acked_seq bigint NOT NULL,
    low_water_id bigint NOT NULL
);
INSERT INTO relay (producer_id, epoch, next_seq, acked_seq, low_water_id)
VALUES (gen_random_uuid(), 0, 1, 0, 0);

-- migrate:down

DROP TABLE relay;
DROP TABLE segment;
DROP TABLE outbox;
DROP TABLE idempotency_keys;
DROP TABLE user_profiles;
DROP TABLE reviews;
DROP TABLE refunds;
DROP TABLE payment_events;
DROP TABLE payments;
DROP TABLE booking_events;
DROP FUNCTION refuse_change();
DROP TABLE bookings;
DROP TABLE package_days;
DROP TABLE packages;
DROP TABLE vendors;
