"""Unique users per minute, exact, from a stream of JSON frames in Kafka.

A frame goes through `producer`, the topic feed, `bucketer`, the topic bucketed, and `counter`. See docs/design.md.
"""
