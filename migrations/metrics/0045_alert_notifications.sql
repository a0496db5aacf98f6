-- migrate:up
CREATE TABLE alert_notification (
    alert_id text NOT NULL,
    target text NOT NULL,
    ordinal integer NOT NULL,
    change text NOT NULL,
    sent_at timestamptz NOT NULL,
    CONSTRAINT alert_notification_pkey PRIMARY KEY (alert_id, target, ordinal)
);
COMMENT ON TABLE alert_notification IS
'Each notice of an alert that a target has taken, written after it was taken: a process that ends in between sends the notice again, with the same id. Kept until the newest notice of the alert is 30 days old.';

-- migrate:down
DROP TABLE alert_notification;
