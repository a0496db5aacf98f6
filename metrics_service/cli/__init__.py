"""The command line: serve, check the settings, and show what a running service answers."""
