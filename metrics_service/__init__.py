"""The metrics service, and the client with which other services send it their events."""
