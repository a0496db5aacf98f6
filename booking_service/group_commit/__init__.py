"""Carries out commands in groups, each group in one transaction."""
