"""All metrics as a pure fold of the event log: no clock, no randomness, no input or output."""
