"""Readers of a counter's state files, and the recount that everything is checked against."""
