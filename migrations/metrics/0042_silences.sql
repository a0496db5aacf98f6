-- migrate:up
CREATE TABLE silence (
    id uuid NOT NULL,
    rule text NOT NULL,
    labels jsonb NOT NULL,
    comment text NOT NULL,
    created_by text NOT NULL,
    request_id text NOT NULL,
    create_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    CONSTRAINT silence_pkey PRIMARY KEY (id),
    CONSTRAINT silence_ends CHECK (create_time <= end_time)
);
COMMENT ON TABLE silence IS
'What holds back notifications of alerts until end_time; those that have ended are kept for 400 days.';
COMMENT ON COLUMN silence.rule IS 'A rule; empty: any.';
COMMENT ON COLUMN silence.labels IS 'Labels that an alert has, by name.';
COMMENT ON COLUMN silence.created_by IS 'The identity that made it.';
COMMENT ON COLUMN silence.request_id IS
'The same request of the same identity has one effect; empty: each time a new one.';
COMMENT ON COLUMN silence.end_time IS 'By the clock of the log; brought forward when it is expired.';
CREATE UNIQUE INDEX silence_request ON silence (created_by, request_id) WHERE request_id <> '';
CREATE INDEX silence_end ON silence (end_time);

-- migrate:down
DROP TABLE silence;
