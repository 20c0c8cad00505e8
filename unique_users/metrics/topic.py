"""One record for each report in a topic of its own, for those who keep their metrics in Kafka."""

import atexit
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Full, Queue
from threading import Thread

import orjson

from unique_users.clients.protocols import Producer
from unique_users.errors import BrokerError, DeliveryError
from unique_users.event_time.buckets import MINUTE
from unique_users.reports.bucket_count import BucketCount
from unique_users.reports.report import Report
from unique_users.runtime.activity import ACTIVITY

ANSWER_SECONDS = 10.0
CLOSE_SECONDS = 3.0  # a stop takes ten at most
WAITING_MAX = 10


class MetricsTopic:
    """An Output: the report's fields, the seconds of each step since the last one, and how many users were new.

    A thread of its own sends them: counts do not wait for metrics. What does not arrive soon is left out.
    """

    def __init__(self, process: str, topic: str, new_producer: Callable[[], Producer]) -> None:
        self._process = process
        self._topic = topic
        self._new_producer = new_producer
        self._producer: Producer | None = None
        self._seconds = dict.fromkeys(ACTIVITY.steps, 0.0)
        self._new_users: int | None = None
        self._waiting: Queue[bytes | None] = Queue(WAITING_MAX)
        self._thread = Thread(target=self._run, name="send metrics", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def counts(self, counts: Sequence[BucketCount]) -> None:
        self._new_users = sum(count.new for count in counts if count.interval == MINUTE.name)

    def report(self, report: Report) -> None:
        totals = {step: each.sum for step, each in ACTIVITY.steps.items()}
        seconds = {step.value: round(total - self._seconds[step], 6) for step, total in totals.items() if total}
        self._seconds = totals
        said = {"process": self._process, **report.fields(), "seconds": seconds}
        if self._new_users is not None:
            said["new_users"] = self._new_users
        with suppress(Full):
            self._waiting.put_nowait(orjson.dumps(said))

    def close(self) -> None:
        """Let what waits arrive, for a few seconds."""
        with suppress(Full):
            self._waiting.put_nowait(None)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (value := self._waiting.get()) is not None:
            try:
                self._producer = self._producer or self._new_producer()
                self._producer.send(self._topic, value, self._process.encode())
                arrived = self._producer.flush(ANSWER_SECONDS)
            except (BrokerError, DeliveryError):
                arrived = False
            if not arrived and self._producer is not None:
                self._producer.close()
                self._producer = None
        if self._producer is not None:
            self._producer.close()
