"""The topics are made when they are missing, and checked when they exist."""

import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread

from unique_users.clients import Admin, Consumer, TopicState, get_admin, when_broker_answers
from unique_users.config import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError
from unique_users.lifecycle import Stop, alive

LOOK_SECONDS = 1.0
STALE_SECONDS = 5.0


def ensure_topic(admin: Admin, topic: Topic) -> TopicState:
    """Create `topic` if it is missing and return its state. An existing topic is used as it is.

    Raises TopicError for one that would make the program wrong.
    """
    state = admin.describe(topic.name)
    if state is None:
        admin.create(topic)
        state = current_state(admin, topic.name)
    if state.partitions < topic.partitions:
        raise TopicError(
            f"topic {topic.name!r} has {state.partitions} partitions, the configuration says {topic.partitions}:"
            " lower `partitions`, or use another topic name"
        )
    return state


def ensure_log_of_record(admin: Admin, topic: Topic) -> TopicState:
    """As `ensure_topic`, and refuse a compacted topic: compaction keeps one user of each minute."""
    state = ensure_topic(admin, topic)
    policy = admin.settings(topic.name).get("cleanup.policy", "")
    if "compact" in policy:
        raise TopicError(
            f"topic {topic.name!r} has cleanup.policy={policy}, which deletes users: set it to `delete` with"
            " kafka-configs, or use another topic name; and replay what was compacted"
        )
    return state


def current_state(admin: Admin, name: str) -> TopicState:
    """The state of a topic that should be there. Raises BrokerAwayError while it is not: it may be made again."""
    state = admin.describe(name)
    if state is None:
        raise BrokerAwayError(f"topic {name!r} does not exist")
    return state


class TopicWatch:
    """Looks at topics once a second in a thread of its own, so that no loop has to wait for a silent broker.

    What it knows may be a few seconds old. That is soon enough: a topic that was made again makes the loops start
    afresh, whatever they read of it in between.
    """

    def __init__(self, admin: Admin, *names: str) -> None:
        self._admin = admin
        self._names = names
        self._seen: dict[str, tuple[float, TopicState]] = {}
        self._stop = Stop()
        self._look()
        self._thread = Thread(target=self._run, name=f"watch {', '.join(names)}", daemon=True)
        self._thread.start()

    def current(self, name: str) -> TopicState:
        """A topic's state. Raises BrokerAwayError when there was none to see for a few seconds."""
        seen = self._seen.get(name)
        if seen is None or time.monotonic() - seen[0] > STALE_SECONDS:
            message = f"no answer about topic {name!r}"
            raise BrokerAwayError(message)
        return seen[1]

    def close(self) -> None:
        """Stop looking and close the admin client."""
        self._stop.request()
        self._thread.join(LOOK_SECONDS)
        self._admin.close()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for name in self._names:
            # A silent broker is said by the loops, when what they know is too old.
            with suppress(BrokerError):
                self._seen[name] = (time.monotonic(), current_state(self._admin, name))


def prepare_topics(config: Config, topics: Iterable[Topic], stop: Stop) -> Admin | None:
    """Wait for the broker and ensure `topics`; return the admin client, None when a stop is requested first."""

    def prepare() -> Admin:
        admin = get_admin(config)
        try:
            for topic in topics:
                alive()
                ensure = ensure_log_of_record if topic is config.topics.bucketed else ensure_topic
                ensure(admin, topic)
        except BaseException:
            admin.close()
            raise
        return admin

    return when_broker_answers(config, stop, prepare)


def ends_now(consumer: Consumer, state: TopicState) -> dict[int, int]:
    """The end offset of each partition of the consumer's topic. Raises BrokerAwayError."""
    return consumer.ends(range(state.partitions))
