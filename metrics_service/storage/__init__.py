"""The metrics database: connections to it, its statements and the checkpoint of the fold."""
