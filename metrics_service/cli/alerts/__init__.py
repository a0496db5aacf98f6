"""The commands of alerts and of the silences that hold them back."""
