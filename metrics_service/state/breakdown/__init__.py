"""Figures by package, package type, location and vendor."""
