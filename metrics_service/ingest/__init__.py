"""The server's end of the tracking streams: producers' frames become requests to the log."""
