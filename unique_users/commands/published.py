"""What the topic `counts` holds, for the commands that need all of it."""

import uuid
from collections.abc import Callable

from unique_users.clients.connect import get_admin, get_consumer
from unique_users.config.schema import Config
from unique_users.counter.counts_topic import read_counts
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import ReadCounts, every_bucket


def read_published(config: Config, wanted: Callable[[Bucket], bool] = every_bucket) -> ReadCounts:
    """Read the `wanted` buckets of the topic with a consumer group of its own, which leaves nothing behind.

    Raises BrokerAwayError, and BrokerError if a right is missing.
    """
    topic = config.topics.counts.name
    admin = get_admin(config)
    try:
        ends = admin.high_watermark_offsets(topic)
        if not any(ends.values()):
            return ReadCounts()
        consumer = get_consumer(config, topic, f"recount-{uuid.uuid4()}")
        try:
            return read_counts(consumer, ends, wanted)
        finally:
            consumer.close()
    finally:
        admin.close()
