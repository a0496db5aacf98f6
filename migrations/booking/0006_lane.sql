-- migrate:up

-- The identity of the lane of facts: where it goes, whose place it has taken after a fork, newest
-- first, and how many of its facts are acknowledged.
ALTER TABLE relay ADD COLUMN sink_id uuid;
ALTER TABLE relay ADD COLUMN succeeds uuid [] NOT NULL DEFAULT '{}';
ALTER TABLE relay ADD COLUMN acked_facts bigint NOT NULL DEFAULT 0;

-- Why no fact is sent, while this is so: one row or none. What the sink has stored is null where it
-- did not say so.
CREATE TABLE lane_trouble (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    state text NOT NULL CHECK (state IN ('forked', 'fenced')),
    reason text NOT NULL,
    since timestamptz NOT NULL,
    sink_id uuid,
    resume_after bigint,
    facts bigint
);

-- migrate:down

DROP TABLE lane_trouble;
ALTER TABLE relay DROP COLUMN acked_facts;
ALTER TABLE relay DROP COLUMN succeeds;
ALTER TABLE relay DROP COLUMN sink_id;
