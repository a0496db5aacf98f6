-- migrate:up

-- Bytes of all segments, and of those that are not acknowledged. While facts are withheld they are in
-- the audit trail alone: how many, and since when.
ALTER TABLE relay ADD COLUMN kept_bytes bigint NOT NULL DEFAULT 0;
ALTER TABLE relay ADD COLUMN unacked_bytes bigint NOT NULL DEFAULT 0;
ALTER TABLE relay ADD COLUMN withholding boolean NOT NULL DEFAULT false;
ALTER TABLE relay ADD COLUMN withheld_facts bigint NOT NULL DEFAULT 0;
ALTER TABLE relay ADD COLUMN withheld_from timestamptz;
COMMENT ON COLUMN relay.kept_bytes IS 'Summed up again when a process begins to lead.';

-- Facts withheld and not yet counted in relay: one row a transaction.
CREATE TABLE withheld (
    count integer NOT NULL CHECK (count > 0),
    event_time timestamptz NOT NULL
);

ALTER TABLE refill ADD COLUMN withheld bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN refill.withheld IS
'Facts that were withheld when it began: they are no longer once it is done.';

-- migrate:down

ALTER TABLE refill DROP COLUMN withheld;
DROP TABLE withheld;
ALTER TABLE relay DROP COLUMN withheld_from;
ALTER TABLE relay DROP COLUMN withheld_facts;
ALTER TABLE relay DROP COLUMN withholding;
ALTER TABLE relay DROP COLUMN unacked_bytes;
ALTER TABLE relay DROP COLUMN kept_bytes;
