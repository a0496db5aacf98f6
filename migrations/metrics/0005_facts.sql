-- migrate:up
CREATE TABLE fact (
    id bytea NOT NULL,
    CONSTRAINT fact_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE fact IS
'The event_id of each fact of the log, added in the transaction that appends it: a fact that arrives again, however late, has no effect. Kept for ever, as the figures of all times are.';

ALTER TABLE event_log ADD COLUMN repeats integer[];
COMMENT ON COLUMN event_log.repeats IS
'Which events of the payload are facts that the log had already, by index from 0; NULL for none.';

-- migrate:down
ALTER TABLE event_log DROP COLUMN repeats;
DROP TABLE fact;
