"""Every failure this program explains itself: one line that says what, the value, and what to do.

Bad data is not an error here: it is counted and kept in the topic `rejected`, and nothing stops.
"""


class UniqueUsersError(Exception):
    """The operator reads the message, follows it and starts again. Ends a script with `exit_code`."""

    exit_code = 1


class UsageError(UniqueUsersError):
    """Arguments or configuration are wrong: fix the named key or flag."""

    exit_code = 2


class BrokerError(UniqueUsersError):
    """The broker answered and refused (credentials, TLS, rights): waiting does not help, fix the `kafka:` section."""


class BrokerAwayError(BrokerError):
    """No broker answers in time. Loops retry; one-shot commands exit: start the broker or fix its address."""


class TopicError(UniqueUsersError):
    """A topic cannot serve its purpose as it is: the message names the setting to change."""


class DeliveryError(UniqueUsersError):
    """Records were not acknowledged. Loops build a new producer and send again from the last commit."""


class TooLargeError(DeliveryError):
    """A broker or a client accepts no record of this size: sent as it is, it never arrives."""


class StateError(UniqueUsersError):
    """The counter's state cannot be trusted or written: it is left unchanged, and the message says how to fix it."""


class OtherTopicError(StateError):
    """The state was made from another topic of the same name: it is set aside, and counting starts afresh."""


class LockedError(StateError):
    """Another process has the state open: stop it, or use another `state.directory`."""


class InputError(UniqueUsersError):
    """The input file is missing, damaged or truncated: fix it and replay it; what was counted stays right."""
