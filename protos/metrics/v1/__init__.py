"""Version 1 of the metrics RPCs and of the health of databases; the stored checkpoint."""
