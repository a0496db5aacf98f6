"""The event log in PostgreSQL: one writer, dense positions, each batch of a producer once."""
