-- migrate:up
CREATE TABLE session (
    number bigint NOT NULL,
    name text NOT NULL,
    entry_us bigint NOT NULL,
    steps smallint NOT NULL,
    abandoned boolean NOT NULL,
    ahead boolean NOT NULL,
    package_id text NOT NULL,
    last_us bigint NOT NULL,
    events integer NOT NULL,
    parts text [] NOT NULL,
    firsts integer [] NOT NULL,
    received_on date NOT NULL,
    CONSTRAINT session_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE session IS
'What each session did, a row for each time that the funnel kept it: changed in the transaction of the checkpoint, so that it is of the same position of the log. Has no id of a user. Kept as long as the log.';
COMMENT ON COLUMN session.number IS 'In the order of the first events; a number is never used again for other events of the same log.';
COMMENT ON COLUMN session.name IS
'The id of the session, or, beginning with ~, a name for a user or a visitor without one.';
COMMENT ON COLUMN session.entry_us IS
'Start of the best chain in microseconds since 1970, UTC, as all times here; 0 without a chain.';
COMMENT ON COLUMN session.steps IS 'Steps of the best chain.';
COMMENT ON COLUMN session.abandoned IS 'By the actor itself, after its last step.';
COMMENT ON COLUMN session.ahead IS 'Counts in the figures of all times only: it was dated ahead.';
COMMENT ON COLUMN session.events IS 'How many there were; the first 500 are in the parts.';
COMMENT ON COLUMN session.parts IS
'The events, one a line: time, index of its name, package, booking, reason. A part for each checkpoint with events.';
COMMENT ON COLUMN session.firsts IS 'The index of the first event of each part.';
COMMENT ON COLUMN session.received_on IS 'When the newest event was received.';
CREATE INDEX session_entry ON session (entry_us, number)
INCLUDE (steps, abandoned, ahead) WHERE steps > 0;
CREATE INDEX session_name ON session (name, number);
-- The rows of a day lie side by side.
CREATE INDEX session_received_on ON session USING brin (received_on);

CREATE TABLE session_booking (
    booking_id text NOT NULL,
    number bigint NOT NULL,
    CONSTRAINT session_booking_pkey PRIMARY KEY (booking_id, number)
);
COMMENT ON TABLE session_booking IS 'The bookings that the events of a session name.';
CREATE INDEX session_booking_number ON session_booking (number);

ALTER TABLE checkpoint ADD COLUMN name_key uuid;
UPDATE checkpoint SET name_key = gen_random_uuid();
ALTER TABLE checkpoint ALTER COLUMN name_key SET DEFAULT gen_random_uuid();
COMMENT ON COLUMN checkpoint.name_key IS
'What the names of users in session.name are hashed with, so that nobody can try ids out without it.';

-- migrate:down
ALTER TABLE checkpoint DROP COLUMN name_key;
DROP TABLE session_booking;
DROP TABLE session;
