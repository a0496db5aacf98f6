-- migrate:up
CREATE TABLE deployment (
    id uuid NOT NULL,
    version text NOT NULL,
    deployed_at timestamptz NOT NULL,
    marked_by text NOT NULL,
    CONSTRAINT deployment_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE deployment IS
'The newest 1,000 deployments that were marked; the 72 hours after each are judged when asked for.';
COMMENT ON COLUMN deployment.id IS
'Of version and time: the same deployment marked again is the same row.';
COMMENT ON COLUMN deployment.marked_by IS 'The identity that marked it first.';

-- migrate:down
DROP TABLE deployment;
