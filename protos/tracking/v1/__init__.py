"""Version 1 of the tracking stream and of the events it carries."""
