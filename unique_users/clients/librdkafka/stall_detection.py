"""Records that librdkafka would keep forever, although their broker is up.

A broker that was restored from a copy reports older leader epochs than the client has seen. librdkafka ignores them,
and once it has lost its connection for a moment, it does not know where to send a partition's records.
"""

import json
from typing import Any

Partitions = frozenset[tuple[str, int]]
_NONE: Partitions = frozenset()


class Stuck:
    """Collects the client's statistics, by callback. Call `for_good` while waiting for records."""

    def __init__(self) -> None:
        self._heard = _NONE  # in the last statistics
        self._again = _NONE  # in the last two
        self._named = _NONE  # and brokers have named the leader since

    def __call__(self, statistics: str) -> None:
        now = without_leader(json.loads(statistics))
        self._again, self._heard, self._named = self._heard & now, now, self._named & now

    def for_good(self, client: Any, timeout_seconds: float) -> Partitions:
        """Partitions without a leader in two statistics after the brokers had named one.

        Raises KafkaException if no broker answers.
        """
        if not self._again:
            return _NONE
        named = frozenset(
            (topic, partition.id)
            for topic in {topic for topic, _ in self._again}
            for partition in client.list_topics(topic, timeout=timeout_seconds).topics[topic].partitions.values()
            if partition.leader >= 0
        )
        stuck, self._named = self._again & self._named, self._again & named
        self._again = self._heard = _NONE
        return stuck


def without_leader(statistics: dict[str, Any]) -> Partitions:
    """The partitions that have waiting records and for which the client has no leader."""
    return frozenset(
        (topic, at["partition"])
        for topic, of_topic in statistics["topics"].items()
        for at in of_topic["partitions"].values()
        if at["partition"] >= 0 and at["leader"] < 0 and at["msgq_cnt"] + at["xmit_msgq_cnt"] > 0
    )
