-- migrate:up
CREATE TABLE history_hour (
    hour timestamptz NOT NULL,
    section text NOT NULL,
    state bytea NOT NULL,
    state_version integer NOT NULL,
    CONSTRAINT history_hour_pkey PRIMARY KEY (hour, section)
);
COMMENT ON TABLE history_hour IS
'What each hour counted, as the cells of the fold, written in the transaction of the checkpoint; corrections are added later. Kept for 400 days.';
COMMENT ON COLUMN history_hour.section IS 'The table of the state: funnel, business, errors, query_totals.';
COMMENT ON COLUMN history_hour.state_version IS 'Version of the code that folded it.';

CREATE TABLE history_day (
    day date NOT NULL,
    section text NOT NULL,
    state bytea NOT NULL,
    state_version integer NOT NULL,
    CONSTRAINT history_day_pkey PRIMARY KEY (day, section)
);
COMMENT ON TABLE history_day IS
'The sum of the hours of each UTC day that is over, and of what is kept by the day only: queries, rpcs. Kept for 5 years.';

CREATE TABLE history_day_figures (
    day date NOT NULL,
    metric text NOT NULL,
    dimension text NOT NULL,
    key text NOT NULL,
    numerator double precision,
    denominator double precision,
    value double precision,
    CONSTRAINT history_day_figures_pkey PRIMARY KEY (day, metric, dimension, key)
);
COMMENT ON TABLE history_day_figures IS
'The figures of history_day as plain numbers, by the names and in the units of GetSeries; value is NULL where the denominator is 0.';
COMMENT ON COLUMN history_day_figures.dimension IS
'Empty, or what the metric is split by: package, reason, operation, and for money currency.';

CREATE TABLE history_total (
    received_on date NOT NULL,
    position bigint NOT NULL,
    state_version integer NOT NULL,
    sections text[] NOT NULL,
    states bytea[] NOT NULL,
    CONSTRAINT history_total_pkey PRIMARY KEY (received_on)
);
COMMENT ON TABLE history_total IS
'The figures of all times as of the first checkpoint of each day of the log: a fold by another version of the code begins with the oldest, and the log need not have more.';

ALTER TABLE checkpoint ADD COLUMN history_position bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN checkpoint.history_position IS
'The last record whose corrections the history has; a fold from an earlier one does not add them again.';

-- migrate:down
ALTER TABLE checkpoint DROP COLUMN history_position;
DROP TABLE history_total;
DROP TABLE history_day_figures;
DROP TABLE history_day;
DROP TABLE history_hour;
