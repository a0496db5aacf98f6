-- migrate:up

-- Retention of a segment counts from its acknowledgement.
ALTER TABLE segment ADD COLUMN ack_time timestamptz;

-- Batches are written and read once or twice: compressing them would cost more than it saves.
ALTER TABLE outbox ALTER COLUMN events SET STORAGE EXTERNAL;
ALTER TABLE segment ALTER COLUMN batch SET STORAGE EXTERNAL;

-- TRUNCATE takes no parameters. It waits for all that read an answer, and they wait for it; so it
-- gives up soon and is tried again.
CREATE FUNCTION empty_idempotency_slot(slot integer) RETURNS void
LANGUAGE plpgsql SET lock_timeout = '100ms' AS $$
BEGIN
    EXECUTE format('TRUNCATE idempotency_keys_%s', slot);
END
$$;

-- migrate:down

DROP FUNCTION empty_idempotency_slot(integer);
ALTER TABLE segment ALTER COLUMN batch SET STORAGE EXTENDED;
ALTER TABLE outbox ALTER COLUMN events SET STORAGE EXTENDED;
ALTER TABLE segment DROP COLUMN ack_time;
