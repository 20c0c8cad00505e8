"""Creates topics that are missing, and checks those that exist."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing

from unique_users.clients.connect import get_admin, when_broker_answers
from unique_users.clients.protocols import REQUEST_BYTES_MAX, Admin, Consumer, TopicState
from unique_users.clients.topic_settings import as_created, notes, refusal
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError
from unique_users.runtime.heartbeat import alive
from unique_users.runtime.signals import Stop

_log = logging.getLogger(__name__)

BATCH_BYTES_NEEDED = 4096  # a uid of 256 bytes in JSON, or a dead letter that is all headers, in a batch of its own


def ensure_topic(admin: Admin, topic: Topic) -> TopicState:
    """Create `topic` if it is missing and return its state. An existing topic is used as it is.

    Raises TopicError for one that would make the counts wrong.
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


def current_state(admin: Admin, name: str) -> TopicState:
    """The state of a topic that should exist. Raises BrokerAwayError while it does not: it may be recreated."""
    state = admin.describe(name)
    if state is None:
        raise BrokerAwayError(f"topic {name!r} does not exist")
    return state


def batch_bytes_max(admin: Admin, name: str) -> int:
    """How many bytes of records, compressed, a topic accepts at once. Raises TopicError if that is too few.

    Without the right to ask, and while the topic is gone, returns a producer's limit: the topic then refuses what is
    too large.
    """
    try:
        settings = admin.settings(name) if admin.describe(name) else {}
    except BrokerAwayError:
        raise
    except BrokerError:
        return REQUEST_BYTES_MAX
    taken = int(settings.get("max.message.bytes", REQUEST_BYTES_MAX))
    if taken < BATCH_BYTES_NEEDED:
        raise TopicError(
            f"topic {name!r} has max.message.bytes={taken}, which is less than one record may need: set it to"
            f" {BATCH_BYTES_NEEDED} or more with kafka-configs"
        )
    return min(taken, REQUEST_BYTES_MAX)


def retention_ms(admin: Admin, name: str) -> int | None:
    """How old the records of a topic become; None if they are kept forever, or without the right to ask."""
    try:
        kept = int(admin.settings(name).get("retention.ms", -1))
    except BrokerAwayError:
        raise
    except BrokerError:
        return None
    return kept if kept >= 0 else None


def asked_bytes_max(config: Config, name: str) -> int:
    """Like `batch_bytes_max`, with an admin client of its own."""
    with closing(get_admin(config)) as admin:
        return batch_bytes_max(admin, name)


def prepare_topics(config: Config, topics: Sequence[Topic], stop: Stop, reads: Topic | None = None) -> Admin | None:
    """Wait for the broker, ensure `topics` and check their settings; log what the reader of `reads` should know.

    Return the admin client, or None if a stop is requested first. Raises TopicError.
    """

    def prepare() -> tuple[Admin, list[str]]:
        admin = get_admin(config)
        try:
            for topic in topics:
                alive()
                ensure_topic(admin, as_created(config, topic))
            return admin, check_settings(config, admin, topics, reads)
        except BaseException:
            admin.close()
            raise

    prepared = when_broker_answers(config, stop, prepare)
    if prepared is None:
        return None
    admin, lines = prepared
    for line in lines:
        _log.info(line)
    return admin


def check_settings(config: Config, admin: Admin, topics: Iterable[Topic], reads: Topic | None) -> list[str]:
    """What to log about the settings of these topics. Raises TopicError for those that make counts wrong."""
    settings: dict[str, Mapping[str, str]] = {}
    unread: list[str] = []
    why = None
    for topic in topics:
        try:
            settings[topic.name] = admin.settings(topic.name)
        except BrokerAwayError:
            raise
        except BrokerError as error:
            unread.append(repr(topic.name))
            why = error
    if reason := refusal(config, settings):
        raise TopicError(reason)
    lines = [] if reads is None else list(notes(config, reads, settings, int(time.time())))
    if unread:
        names = ", ".join(unread)
        lines.append(
            f"cleanup.policy and retention of {names} are not checked: that needs the right DescribeConfigs: {why}"
        )
    return lines


def high_watermark_offsets_now(consumer: Consumer, state: TopicState) -> dict[int, int]:
    """The high watermark offset of each partition of the consumer's topic. Raises BrokerAwayError."""
    return consumer.high_watermark_offsets(range(state.partitions))
