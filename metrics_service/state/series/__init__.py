"""Figures by time: rings of slots, in three resolutions, whose sums are kept."""
