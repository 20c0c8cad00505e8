"""Failures of a local Kafka: one line that says what happened, and what to do. A command ends with `exit_code`."""


class LocalKafkaError(Exception):
    """The local Kafka cannot be started, stopped or fetched: the message names the cause and its log."""

    exit_code = 1


class UsageError(LocalKafkaError):
    """The request is impossible: change the named key or flag."""

    exit_code = 2
