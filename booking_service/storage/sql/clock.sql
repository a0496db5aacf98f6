-- The only statement that reads a clock: all others take the time as a parameter. In a transaction
-- it runs after the locks are held.
-- name: clock.now internal
SELECT clock_timestamp();
