-- migrate:up

-- Every change of vendors, packages and their capacity: who, when, and what it was before and after.
CREATE TABLE catalog_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vendor_id uuid NOT NULL REFERENCES vendors (id),
    package_id uuid REFERENCES packages (id),
    change text NOT NULL CHECK (
        change IN (
            'VENDOR_CREATED', 'VENDOR_UPDATED', 'PACKAGE_CREATED', 'PACKAGE_UPDATED',
            'CAPACITY_SET', 'INVENTORY_REPAIRED'
        )
    ),
    fields jsonb NOT NULL,
    runs jsonb NOT NULL,
    days_left_out integer NOT NULL CHECK (days_left_out >= 0),
    caller text NOT NULL,
    request_id uuid,
    event_time timestamptz NOT NULL
);
COMMENT ON TABLE catalog_events IS
'The audit trail of the catalogue; by id, events of one package are in the order of their commits.';
COMMENT ON COLUMN catalog_events.package_id IS 'NULL for a change of the vendor itself.';
COMMENT ON COLUMN catalog_events.fields IS 'Changed fields as [[field, before, after], ...].';
COMMENT ON COLUMN catalog_events.runs IS
'Changed days as [[counter, first day, day after, before, after], ...], at most 100 runs.';
COMMENT ON COLUMN catalog_events.days_left_out IS 'Changed days that are in no run.';
CREATE INDEX catalog_events_vendor ON catalog_events (vendor_id, id);
CREATE INDEX catalog_events_package ON catalog_events (package_id, id)
WHERE package_id IS NOT NULL;

CREATE TRIGGER catalog_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON catalog_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Who stated that a payment was made or failed, and who requested a refund.
ALTER TABLE payment_events ADD COLUMN caller text, ADD COLUMN request_id uuid;
COMMENT ON COLUMN payment_events.caller IS
'The caller that reported it; NULL for one of before the column.';
ALTER TABLE refunds ADD COLUMN caller text, ADD COLUMN request_id uuid;
COMMENT ON COLUMN refunds.caller IS
'The caller whose request it comes from; NULL for one of before the column.';

-- migrate:down

ALTER TABLE refunds DROP COLUMN request_id, DROP COLUMN caller;
ALTER TABLE payment_events DROP COLUMN request_id, DROP COLUMN caller;
DROP TABLE catalog_events;
