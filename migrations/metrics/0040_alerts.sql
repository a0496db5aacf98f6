-- migrate:up
CREATE TABLE alert_head (
    only_row boolean PRIMARY KEY DEFAULT true,
    writer_epoch bigint NOT NULL DEFAULT 0,
    next_number bigint NOT NULL DEFAULT 1,
    first_number bigint NOT NULL DEFAULT 1,
    machine bytea NOT NULL DEFAULT '',
    saved_at timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00',
    CONSTRAINT alert_head_only_row CHECK (only_row),
    CONSTRAINT alert_head_numbers CHECK (1 <= first_number AND first_number <= next_number)
);
COMMENT ON TABLE alert_head IS
'The state of the alert engine, changed in the transaction that stores the alerts and events it made.';
COMMENT ON COLUMN alert_head.writer_epoch IS
'That of event_log_head when its writer took over the alerts: no other process writes them.';
COMMENT ON COLUMN alert_head.next_number IS 'Of the next row of alert_event.';
COMMENT ON COLUMN alert_head.first_number IS
'Rows of alert_event before it may be deleted; it never goes back.';
COMMENT ON COLUMN alert_head.machine IS 'As the engine writes it; empty before the first time.';
COMMENT ON COLUMN alert_head.saved_at IS 'The time of the log that it is of.';
INSERT INTO alert_head DEFAULT VALUES;

CREATE TABLE alert (
    id uuid NOT NULL,
    rule text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    labels jsonb NOT NULL,
    summary text NOT NULL,
    start_time timestamptz NOT NULL,
    fire_time timestamptz,
    resolve_time timestamptz,
    changed_at timestamptz NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT alert_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE alert IS
'Each incident of each rule, as it is now; those that are over are kept for 400 days.';
COMMENT ON COLUMN alert.state IS 'The name of a metrics.v1.AlertState without its prefix.';
COMMENT ON COLUMN alert.resolve_time IS 'When it was resolved, or was cancelled before it fired.';
COMMENT ON COLUMN alert.changed_at IS 'The time of the log of the newest change of its state.';
COMMENT ON COLUMN alert.body IS 'A serialised metrics.v1.Alert without its history.';
-- Those that are over are listed newest first, and forgotten oldest first.
CREATE INDEX alert_over ON alert (resolve_time DESC, id) WHERE resolve_time IS NOT NULL;

-- migrate:down
DROP TABLE alert;
DROP TABLE alert_head;
