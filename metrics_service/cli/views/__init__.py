"""The commands that show what was counted."""
