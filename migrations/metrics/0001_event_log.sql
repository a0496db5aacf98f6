-- migrate:up
CREATE TABLE event_log_head (
    only_row boolean PRIMARY KEY DEFAULT true,
    next_position bigint NOT NULL DEFAULT 1,
    received_at timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00',
    writer_epoch bigint NOT NULL DEFAULT 0,
    CONSTRAINT event_log_head_only_row CHECK (only_row),
    CONSTRAINT event_log_head_next_position CHECK (next_position >= 1)
);
COMMENT ON TABLE event_log_head IS
'Where the next record goes, and who may write it: positions are taken by UPDATE in the transaction that appends.';
INSERT INTO event_log_head DEFAULT VALUES;

CREATE TABLE event_log (
    position bigint NOT NULL,
    received_at timestamptz NOT NULL,
    kind text NOT NULL,
    lane integer NOT NULL,
    producer_id text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    instance text NOT NULL,
    service text NOT NULL,
    backfill boolean NOT NULL,
    event_count integer NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT event_log_pkey PRIMARY KEY (position, received_at),
    CONSTRAINT event_log_kind CHECK (kind IN ('batch', 'tick', 'unclean_end'))
) PARTITION BY RANGE (received_at);
COMMENT ON TABLE event_log IS
'Everything that was received, in the order it is folded; one partition a day, made ahead and dropped after the retention.';
COMMENT ON COLUMN event_log.position IS 'Dense: 1, 2, 3, ...';
COMMENT ON COLUMN event_log.received_at IS 'The clock of the fold; never goes back with the position.';
COMMENT ON COLUMN event_log.lane IS 'Number of tracking.v1.Lane; 0 for a tick.';
COMMENT ON COLUMN event_log.event_count IS 'Events in the payload, as its producer says.';
COMMENT ON COLUMN event_log.payload IS 'A serialised tracking.v1.EventList; empty but for batches.';

CREATE TABLE producer (
    lane integer NOT NULL,
    id text NOT NULL,
    epoch bigint NOT NULL,
    next_seq bigint NOT NULL,
    last_hash bytea NOT NULL,
    instance text NOT NULL,
    service text NOT NULL,
    backfill boolean NOT NULL,
    open boolean NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT producer_pkey PRIMARY KEY (lane, id)
);
COMMENT ON TABLE producer IS
'The resume point of each producer, advanced in the transaction that appends its batch.';
COMMENT ON COLUMN producer.last_hash IS 'SHA-256 of the payload of batch next_seq - 1; empty for none.';
COMMENT ON COLUMN producer.open IS 'Has neither said Goodbye nor been counted as ended without one.';

-- migrate:down
DROP TABLE producer;
DROP TABLE event_log;
DROP TABLE event_log_head;
