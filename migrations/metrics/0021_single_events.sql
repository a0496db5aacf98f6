-- migrate:up
CREATE TABLE single_event (
    id bytea NOT NULL,
    received_on date NOT NULL,
    CONSTRAINT single_event_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE single_event IS
'The id of each event that arrived without a stream, added in the transaction that appends it: one that arrives again has no effect. Kept as long as the log. Apart from those of facts, so that no event can take the place of a fact.';
-- The rows of a day lie side by side.
CREATE INDEX single_event_received_on ON single_event USING brin (received_on);

-- migrate:down
DROP TABLE single_event;
