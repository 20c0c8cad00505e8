"""Metrics in the text format, as a scrape gets them."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from unique_users.metrics import declared
from unique_users.metrics.declared import family, histogram
from unique_users.runtime.activity import Distribution


class These(Collector):
    """Collects what it is given."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def scraped(*metrics: Metric) -> dict[str, dict[tuple[str, ...], float]]:
    registry = CollectorRegistry()
    registry.register(These(*metrics))
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for each in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in each.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def test_a_counter_ends_with_total() -> None:
    assert scraped(family(declared.RECORDS_OUT, {("feed",): 3, ('a"b\\c\nd',): 4})) == {
        "unique_users_records_out_total": {("feed",): 3.0, ('a"b\\c\nd',): 4.0}
    }


def test_a_gauge_that_is_not_known_has_no_sample() -> None:
    assert scraped(family(declared.WATERMARK, {})) == {}


def test_a_histogram_counts_what_is_at_most_a_bound() -> None:
    distribution = Distribution((1, 5))
    distribution.add(0.5)
    distribution.add(1, times=2)
    distribution.add(5)
    distribution.add(100, times=3)
    found = scraped(histogram(declared.STEP_SECONDS, {("poll",): distribution}))
    assert found["unique_users_step_seconds_bucket"] == {
        ("1.0", "poll"): 3.0, ("5.0", "poll"): 4.0, ("+Inf", "poll"): 7.0,
    }  # fmt: skip
    assert found["unique_users_step_seconds_count"] == {("poll",): 7.0}
    assert found["unique_users_step_seconds_sum"] == {("poll",): 307.5}
