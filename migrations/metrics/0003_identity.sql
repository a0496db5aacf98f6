-- migrate:up
ALTER TABLE event_log_head ADD COLUMN sink_id uuid;
COMMENT ON COLUMN event_log_head.sink_id IS
'Names this log to the producers of facts, which send to no other; made when the log is first written.';

ALTER TABLE producer ADD COLUMN events bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN producer.events IS
'Events stored of this producer, and for facts of those that it succeeds; by their number in each batch.';
ALTER TABLE producer ADD COLUMN pinned boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN producer.pinned IS
'The facts of this log are its facts: those of no other live producer are taken.';

-- Where facts of several live producers are stored, the first one that sends a batch is pinned.
UPDATE producer SET pinned = true
WHERE
    lane = 1 AND NOT backfill AND next_seq > 1
    AND 1 = (
        SELECT count(*) FROM producer AS p WHERE p.lane = 1 AND NOT p.backfill AND p.next_seq > 1
    );

-- migrate:down
ALTER TABLE producer DROP COLUMN pinned;
ALTER TABLE producer DROP COLUMN events;
ALTER TABLE event_log_head DROP COLUMN sink_id;
