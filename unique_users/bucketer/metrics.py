"""The metrics of a bucketer."""

import time
from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from unique_users.bucketer.loop import Bucketing
from unique_users.config.schema import Config
from unique_users.metrics import declared
from unique_users.metrics.declared import family, histogram
from unique_users.metrics.families import frames, traffic_in, traffic_out
from unique_users.metrics.lag_watch import LagWatch
from unique_users.runtime.activity import Distribution


class BucketerSource:
    """Of a bucketer: ready once it has partitions, and has opened them."""

    def __init__(self, config: Config, bucketing: Bucketing, lateness: Distribution, lag: LagWatch) -> None:
        self._topic = config.topics.feed.name
        self._bucketing = bucketing
        self._lateness = lateness
        self._lag = lag

    def families(self) -> Iterator[Metric]:
        clocks = [each.clock for each in list(self._bucketing.partitions.open.values())]
        yield from traffic_out()
        yield from traffic_in(self._lag, self._topic, len(clocks))
        yield from frames(self._bucketing.counts)
        yield histogram(declared.LATENESS_SECONDS, {(): self._lateness})
        stream, watermark = [clock.now() for clock in clocks], [clock.watermark() for clock in clocks]
        yield family(declared.STREAM_TIME, _earliest(stream))
        yield family(declared.WATERMARK, earliest := _earliest(watermark))
        yield family(declared.WATERMARK_AGE, {labels: time.time() - at for labels, at in earliest.items()})

    def not_ready(self) -> str:
        return self._bucketing.partitions.not_ready()


def _earliest(times: list[int | None]) -> Mapping[tuple[str, ...], float]:
    """The minimum, if all are known."""
    known = [at for at in times if at is not None]
    return {(): min(known)} if known and len(known) == len(times) else {}
