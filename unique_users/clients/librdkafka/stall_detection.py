"""Records that librdkafka would keep for good, though their broker is there.

A broker that was restored from a copy tells of older leader epochs than the client has seen. librdkafka does not
believe them, and once it has lost its connection for a moment, it does not know whom to send a partition's records to.
"""

import json
from typing import Any

Partitions = frozenset[tuple[str, int]]
_NONE: Partitions = frozenset()


class Stuck:
    """Hears the client's statistics, on its callback. Call `for_good` when records are waited for."""

    def __init__(self) -> None:
        self._heard = _NONE  # in the last statistics
        self._again = _NONE  # in the last two
        self._named = _NONE  # and brokers have named the leader since

    def __call__(self, statistics: str) -> None:
        now = without_leader(json.loads(statistics))
        self._again, self._heard, self._named = self._heard & now, now, self._named & now

    def for_good(self, client: Any, timeout_seconds: float) -> Partitions:
        """Partitions that two statistics said to be without a leader after the brokers had named it.

        Raises KafkaException when no broker answers.
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
    """The partitions that records wait for and that the client has no leader of."""
    return frozenset(
        (topic, at["partition"])
        for topic, of_topic in statistics["topics"].items()
        for at in of_topic["partitions"].values()
        if at["partition"] >= 0 and at["leader"] < 0 and at["msgq_cnt"] + at["xmit_msgq_cnt"] > 0
    )
