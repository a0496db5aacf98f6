-- migrate:up
-- Not a rewrite: the default is one value for the whole statement.
-- squawk-ignore adding-field-with-default
ALTER TABLE fact ADD COLUMN received_on date NOT NULL DEFAULT current_date;
COMMENT ON TABLE fact IS
'The event_id of each fact of the log, added in the transaction that appends it: a fact that arrives again has no effect. Kept for METRICS_FACT_IDS_DAYS.';
-- The rows of a day lie side by side, and it is built in one pass over them.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX fact_received_on ON fact USING brin (received_on);

ALTER TABLE event_log_head ADD COLUMN facts_known_from timestamptz;
COMMENT ON COLUMN event_log_head.facts_known_from IS
'A fact of before, by its own time, counts as one that has arrived already, since its id may be forgotten; NULL while none is.';

-- migrate:down
ALTER TABLE event_log_head DROP COLUMN facts_known_from;
DROP INDEX fact_received_on;
ALTER TABLE fact DROP COLUMN received_on;
