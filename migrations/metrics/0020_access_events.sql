-- migrate:up

-- Who may call this service, as each process found it: at its start, and whenever the file that
-- names the callers was replaced.
CREATE TABLE access_events (
    id uuid PRIMARY KEY,
    event_time timestamptz NOT NULL,
    instance text NOT NULL,
    change text NOT NULL CHECK (change IN ('STARTED', 'RELOADED')),
    file_sha256 text,
    identities integer NOT NULL,
    added jsonb NOT NULL,
    removed jsonb NOT NULL,
    changed jsonb NOT NULL,
    left_out integer NOT NULL
);
COMMENT ON TABLE access_events IS
'The audit trail of access: one row a start of a process and a replacement of its file.';
COMMENT ON COLUMN access_events.event_time IS
'When the process read the file, by the clock of its machine.';
COMMENT ON COLUMN access_events.file_sha256 IS
'Of the file of identities; NULL where callers are not told apart and everybody may do everything.';
COMMENT ON COLUMN access_events.identities IS 'How many identities the file has.';
COMMENT ON COLUMN access_events.added IS
'What each identity may, by its name; at a start all of them. changed: {name: [before, after]}.';
COMMENT ON COLUMN access_events.left_out IS
'Names beyond 16 kB, which are in none of the three.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', tg_table_name USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER access_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON access_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate:down

DROP TABLE access_events;
DROP FUNCTION refuse_change();
