"""What goes wrong with a local Kafka: one line that says what, and what to do. A command ends with `exit_code`."""


class LocalKafkaError(Exception):
    """The local Kafka cannot be started, stopped or fetched: the message names the cause and its log."""

    exit_code = 1


class UsageError(LocalKafkaError):
    """What was asked for cannot be: change the named key or flag."""

    exit_code = 2
