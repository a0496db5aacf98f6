"""The alert engine, which is pure: it measures rules over figures and verdicts, and keeps the state
of their alerts.
"""
