"""The topics are made when they are missing, and checked when they exist."""

from collections.abc import Iterable

from unique_users.clients import Admin, Consumer, TopicState, get_admin, when_broker_answers
from unique_users.config import Config, Topic
from unique_users.errors import TopicError
from unique_users.lifecycle import Stop


def ensure_topics(admin: Admin, topics: Iterable[Topic]) -> dict[str, TopicState]:
    """Create the missing ones of `topics` and return the state of each by name.

    An existing topic is used as it is. Raises TopicError for one that would make the program wrong.
    """
    states = {}
    for topic in topics:
        state = admin.describe(topic.name)
        if state is None:
            admin.create(topic)
            state = admin.describe(topic.name)
        if state is None:
            message = f"topic {topic.name!r} was created but is not there: is it deleted by another program?"
            raise TopicError(message)
        if state.partitions < topic.partitions:
            message = (
                f"topic {topic.name!r} has {state.partitions} partitions, the configuration says {topic.partitions}:"
                " lower `partitions`, or use another topic name"
            )
            raise TopicError(message)
        states[topic.name] = state
    return states


def check_log_of_record(config: Config, state: TopicState) -> None:
    """Refuse a compacted `bucketed`: compaction keeps one user of each minute. Raises TopicError."""
    name = config.topics.bucketed.name
    if "compact" in state.settings.get("cleanup.policy", ""):
        message = (
            f"topic {name!r} has cleanup.policy={state.settings['cleanup.policy']}, which deletes users:"
            f" set it to `delete` with kafka-configs, or use another topic name, and replay what was compacted"
        )
        raise TopicError(message)


def prepare_topics(config: Config, topics: Iterable[Topic], stop: Stop) -> dict[str, TopicState]:
    """Wait for the broker and `ensure_topics`; return their states, none when a stop is requested first."""

    def prepare() -> dict[str, TopicState]:
        admin = get_admin(config)
        try:
            return ensure_topics(admin, topics)
        finally:
            admin.close()

    return when_broker_answers(config, stop, prepare) or {}


def ends_now(consumer: Consumer, state: TopicState) -> dict[int, int]:
    """The end offset of each partition of the consumer's topic. Raises BrokerAwayError."""
    return {p: end for p, (_, end) in consumer.bounds(range(state.partitions)).items()}
