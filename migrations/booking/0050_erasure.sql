-- migrate:up

-- Erasures of users: one under way has the user's id, and what stands for it from then on; one that
-- is done has no trace of the user.
CREATE TABLE erasures (
    id uuid PRIMARY KEY,
    user_id text,
    pseudonym text NOT NULL,
    caller text NOT NULL,
    begin_time timestamptz NOT NULL,
    end_time timestamptz,
    part text NOT NULL CHECK (part IN ('bookings', 'answers', 'outbox', 'segments', 'done')),
    after text [] NOT NULL,
    bookings bigint NOT NULL DEFAULT 0,
    CONSTRAINT erasures_user UNIQUE (user_id),
    CONSTRAINT erasures_done CHECK ((part = 'done') = (user_id IS NULL) AND (part = 'done') = (end_time IS NOT NULL))
);
COMMENT ON TABLE erasures IS
'The audit trail of erasures: who asked for each, when it was done, and how many bookings it was about.';
COMMENT ON COLUMN erasures.after IS
'The key of the last row that was read in this part; empty before the first.';
CREATE TRIGGER erasures_append_only
BEFORE DELETE OR TRUNCATE ON erasures
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The only change that the audit trail takes: an erasure under way, which the transaction names, takes
-- the user out of the facts and texts of bookings that already have its pseudonym.
CREATE FUNCTION refuse_but_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (new.booking_id, new.version, new.transition, new.from_state, new.to_state, new.caller,
        new.request_id, new.event_time)
        IS DISTINCT FROM
        (old.booking_id, old.version, old.transition, old.from_state, old.to_state, old.caller,
        old.request_id, old.event_time)
        OR new.reason NOT IN (old.reason, '')
        OR (new.fact IS NULL) <> (old.fact IS NULL)
        OR NOT EXISTS (
            SELECT
            FROM bookings AS b
            INNER JOIN erasures AS e ON b.user_id = e.pseudonym
            WHERE b.id = old.booking_id AND e.part = 'bookings'
                AND e.id::text = current_setting('booking.erasure', true)
        )
    THEN
        RAISE EXCEPTION '% is append-only', tg_table_name USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN new;
END
$$;
DROP TRIGGER booking_events_append_only ON booking_events;
CREATE TRIGGER booking_events_append_only
BEFORE DELETE OR TRUNCATE ON booking_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER booking_events_erasure_only
BEFORE UPDATE ON booking_events
FOR EACH ROW EXECUTE FUNCTION refuse_but_erasure();

ALTER TABLE segment ADD COLUMN former_hashes bytea [] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN segment.former_hashes IS
'Hashes of the batch before erasures: the sink may have stored it as it was then.';

-- migrate:down

ALTER TABLE segment DROP COLUMN former_hashes;
DROP TRIGGER booking_events_erasure_only ON booking_events;
DROP TRIGGER booking_events_append_only ON booking_events;
CREATE TRIGGER booking_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON booking_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP FUNCTION refuse_but_erasure();
DROP TABLE erasures;
