"""What each session did, on its way to the table of sessions."""
