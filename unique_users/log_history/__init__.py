"""Recognises a partition that was cut back or trimmed under its reader."""
