"""Translates requests to commands and query arguments, and domain values to replies; decides
nothing.
"""
