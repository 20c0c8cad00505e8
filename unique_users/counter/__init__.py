"""Counts the unique users of bucketed, keeps the state, publishes and reports."""
