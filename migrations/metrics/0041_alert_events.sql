-- migrate:up
CREATE TABLE alert_event (
    number bigint NOT NULL,
    alert_id uuid NOT NULL,
    rule text NOT NULL,
    change text NOT NULL,
    state text NOT NULL,
    event_time timestamptz NOT NULL,
    summary text NOT NULL,
    CONSTRAINT alert_event_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE alert_event IS
'Each change of each alert, once, in the order in which they happened; append-only, kept as long as the alerts.';
COMMENT ON COLUMN alert_event.number IS 'Dense, of all alerts together.';
COMMENT ON COLUMN alert_event.event_time IS 'The time of the log at which it changed.';
CREATE INDEX alert_event_of_alert ON alert_event (alert_id, number);

-- Only rows that alert_head.first_number has given up are deleted.
CREATE FUNCTION keep_alert_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.number >= (SELECT first_number FROM alert_head) THEN
        RAISE EXCEPTION '% is append-only', tg_table_name USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN old;
END
$$;
CREATE TRIGGER alert_event_kept
BEFORE DELETE ON alert_event FOR EACH ROW EXECUTE FUNCTION keep_alert_event();
CREATE TRIGGER alert_event_append_only
BEFORE UPDATE OR TRUNCATE ON alert_event FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate:down
DROP TABLE alert_event;
DROP FUNCTION keep_alert_event();
