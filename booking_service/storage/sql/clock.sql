-- The database's clock. The only statement that reads one: every other takes the time as a
-- parameter, and inside a transaction it runs after the locks are held.
-- name: clock.now internal
SELECT clock_timestamp();
