"""Rules that watch health and queries, and the notifier that sends their notices to people."""
