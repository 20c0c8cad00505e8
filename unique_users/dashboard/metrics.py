"""The metrics of the page."""

from collections.abc import Callable, Iterator
from enum import StrEnum

from prometheus_client.core import Metric

from unique_users.metrics import declared
from unique_users.metrics.declared import family
from unique_users.metrics.families import single


class DashboardSource:
    """Of the page: ready once it has read what it shows."""

    def __init__(self, pages: Callable[[], int], state: Callable[[], StrEnum]) -> None:
        self._pages = pages
        self._state = state

    def families(self) -> Iterator[Metric]:
        yield single(declared.PAGES, self._pages())
        shown = self._state()
        yield family(declared.PIPELINE_STATE, {(state.value,): float(state == shown) for state in type(shown)})

    def not_ready(self) -> str:
        return "reading the counts" if self._state() == "starting" else ""
