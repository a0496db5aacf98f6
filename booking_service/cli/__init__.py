"""The command line: serve, check the settings, migrate the database, and manage its indexes."""
