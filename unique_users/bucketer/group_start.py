"""Where a group begins to read `feed`: at `bucketer.start`, in partitions where it has committed nothing yet."""

import logging
from collections.abc import Iterable

from unique_users.clients.protocols import Consumer, Position, TopicState
from unique_users.config.schema import Config, start_of
from unique_users.errors import BrokerAwayError
from unique_users.messages.offset_metadata import OffsetMetadata

_log = logging.getLogger(__name__)

COMMIT_SECONDS = 3.0


class GroupStart:
    """Commits where a new group begins before it reads anything, so that a crash does not move its start.

    The commit records how many partitions `feed` had then. Partitions added later are read from their start, and so are
    those of an existing group that only lacks some commits.
    """

    def __init__(self, config: Config, consumer: Consumer) -> None:
        self._name = config.topics.feed.name
        self._wanted = config.bucketer.start
        self._at_ms = start_of(config.bucketer.start)
        self._consumer = consumer

    def committed(self, uncommitted: Iterable[int], topic: TopicState) -> dict[int, Position]:
        """The positions, now committed, of those partitions that do not begin at the start of the log.

        Raises BrokerAwayError, also if the group is rebalancing.
        """
        if self._at_ms == 0 or not (left := set(uncommitted)):
            return {}
        others = self._consumer.committed(range(topic.partitions)).values()
        if others:
            had = max(OffsetMetadata.parsed(each.metadata).began_with for each in others)
            left = {partition for partition in left if partition < had}
        metadata = OffsetMetadata(topic.id, began_with=topic.partitions).text()
        positions = {p: Position(offset, metadata) for p, offset in self._offsets(left).items()}
        if positions and not self._consumer.commit(positions, COMMIT_SECONDS):
            raise BrokerAwayError(f"the group is rebalancing and cannot commit where it begins to read {self._name}")
        return positions

    def _offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        asked = sorted(partitions)
        low_high = self._consumer.watermark_offsets(asked)
        at_ms = self._at_ms
        found = self._consumer.offsets_at(asked, at_ms) if at_ms is not None else {p: low_high[p][1] for p in asked}
        for partition, offset in found.items():
            left_out = max(0, offset - low_high[partition][0])
            _log.info(
                f"{self._name}-{partition}: the group has no commit: reading from offset {offset}"
                f" (bucketer.start: {self._wanted}), skipping {left_out} earlier records"
            )
        return found
