"""The booking database: connections, clock, errors, rows, and every SQL statement."""
