"""Copies of the published counts in other systems."""
