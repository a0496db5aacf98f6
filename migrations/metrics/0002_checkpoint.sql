-- migrate:up
CREATE TABLE checkpoint (
    only_row boolean PRIMARY KEY DEFAULT true,
    generation bigint NOT NULL DEFAULT 0,
    position bigint NOT NULL DEFAULT 0,
    previous_position bigint NOT NULL DEFAULT 0,
    state_version integer NOT NULL DEFAULT 0,
    writer_epoch bigint NOT NULL DEFAULT 0,
    saved_at timestamptz,
    CONSTRAINT checkpoint_only_row CHECK (only_row)
);
COMMENT ON TABLE checkpoint IS
'Which log position the rows of checkpoint_bucket stand for; flipped by compare-and-set on generation, together with them.';
COMMENT ON COLUMN checkpoint.position IS 'The last record folded in; 0 before the first checkpoint.';
COMMENT ON COLUMN checkpoint.state_version IS 'Version of the code that wrote the state; another is refolded from the log.';
INSERT INTO checkpoint DEFAULT VALUES;

CREATE TABLE checkpoint_bucket (
    section text NOT NULL,
    bucket bigint NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT checkpoint_bucket_pkey PRIMARY KEY (section, bucket)
);
COMMENT ON TABLE checkpoint_bucket IS 'The folded state, as protobuf messages, in pieces that change apart.';

-- migrate:down
DROP TABLE checkpoint_bucket;
DROP TABLE checkpoint;
