"""Figures over time: what is charted, and what is kept for years beside the state."""
