"""What the topic `counts` holds, for the commands that need all of it."""

from collections.abc import Callable
from contextlib import closing

from unique_users.clients.connect import get_reader
from unique_users.config.schema import Config
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import ReadCounts, every_bucket
from unique_users.queries.every_count import EveryCount


def read_published(config: Config, wanted: Callable[[Bucket], bool] = every_bucket) -> ReadCounts:
    """Read the `wanted` buckets of the topic. Raises BrokerAwayError, and BrokerError if a right is missing."""
    with closing(get_reader(config, config.topics.counts.name)) as reader:
        every = EveryCount(reader, wanted)
        while not every.caught_up:
            every.step()
        return every.counts
