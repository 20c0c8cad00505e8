"""What a poll of kafka-python waits for, counted on a real broker: sleeps and requests, never a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from brokers import config_for
from kafka import TopicPartition
from kafka.consumer import group as polling
from kafka.errors import KafkaConnectionError
from kafka.future import Future
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import FetchRequest
from patience import LIMIT_SECONDS, until

from unique_users.clients.connect import get_admin, get_producer
from unique_users.clients.kafka_python.consumer import KafkaPythonConsumer
from unique_users.config.schema import Config, Topic
from unique_users.local_kafka.broker import free_port

RECORDS = 50
LEAST_JITTER = 0.8  # of a backoff


class Replay:
    """A topic of records, each in a batch of its own, and a consumer that begins to read it."""

    def __init__(self, config: Config, topic: str) -> None:
        self.config = config
        self.topic = topic
        self.consumer = KafkaPythonConsumer(config, topic, topic)
        self.fetcher = self.consumer._consumer._fetcher
        self.read: list[bytes | None] = []

    @property
    def in_hand(self) -> bool:
        """Whether the next poll has records of an answer that the one before has begun to hand out."""
        return bool(self.fetcher._next_partition_records)

    def fill(self, partitions: int = 1, records: int = RECORDS) -> None:
        admin, producer = get_admin(self.config), get_producer(self.config)
        admin.create(Topic(name=self.topic, partitions=partitions))
        for number in range(records):
            producer.send(self.topic, b"%d" % number, partition=number % partitions)
            assert producer.flush(LIMIT_SECONDS)
        producer.close()
        admin.close()

    def poll(self) -> None:
        polled = self.consumer.poll(0.1)
        for partition in polled.assigned:
            self.consumer.seek(partition, 0)
        self.read += [value for batch in polled.batches for value in batch.values]

    def poll_until(self, condition: Callable[[], bool]) -> None:
        def polled() -> bool:
            if met := condition():
                return met
            self.poll()
            return False

        until(polled, lambda: f"more, {len(self.read)} are read", every=0)

    def answer_waits(self) -> bool:
        """Whether records have come that no poll has looked at."""
        return bool(self.fetcher._completed_fetches)

    def on_io_thread(self, do: Callable[[], object]) -> None:
        """Do it, behind all that the thread was given to do before."""
        self.consumer._consumer._net.run(lambda: (do(), None)[1])


class HeldAnswers:
    """Keeps the answers to a consumer's fetches until they are let go."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._send = replay.fetcher._manager.send
        self._held: list[tuple[Future, Future]] = []
        replay.fetcher._manager.send = self._sent

    def _sent(self, request: Any, **settings: Any) -> Future:
        answer = self._send(request, **settings)
        if not isinstance(request, FetchRequest):
            return answer
        self._held.append((answer, Future()))
        return self._held[-1][1]

    def let_go(self) -> None:
        while self._held:
            self._hand_over(*self._held.pop())

    def _hand_over(self, answer: Future, held: Future) -> None:
        until(lambda: answer.is_done, "an answer", every=0.001)
        self._replay.on_io_thread(lambda: held.success(answer.value))


@pytest.fixture
def replay(broker: str, unique_name: Callable[[str], str]) -> Iterator[Callable[..., Replay]]:
    made: list[Replay] = []

    def replay(partitions: int = 1, **kafka: Any) -> Replay:
        made.append(Replay(config_for(broker, kafka=kafka), unique_name("waits")))
        made[-1].fill(partitions)
        return made[-1]

    yield replay
    for each in made:
        with suppress(Exception):
            each.consumer.close()
        admin = get_admin(each.config)
        admin.delete([each.topic])
        admin.close()


class Clock:
    """The module `time`, as far as a poll uses it, that tells of each sleep instead of sleeping."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep


VALUES = [b"%d" % number for number in range(RECORDS)]
ANSWER_BYTES = 1_000  # about a dozen of these records


def test_no_poll_sleeps_beside_records_that_have_come(
    replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    # An answer has one record. It comes when a poll has found nothing, and before it looks for one to wait for.
    read = replay(max_partition_fetch_bytes=1)
    answers = HeldAnswers(read)
    slept_beside: list[float] = []
    monkeypatch.setattr(polling, "time", Clock(lambda s: slept_beside.append(s) if read.answer_waits() else None))
    send_fetches = read.fetcher.send_fetches

    def just_too_late() -> Any:
        answers.let_go()
        return send_fetches()

    read.fetcher.send_fetches = just_too_late
    read.poll_until(lambda: len(read.read) >= RECORDS)
    assert read.read == VALUES
    assert not slept_beside


def test_a_poll_with_nothing_to_wait_for_sleeps_before_it_looks_again(
    replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = replay()
    read.poll_until(lambda: len(read.read) >= RECORDS)
    looks, sleeps = Counter[bool](), list[float]()
    monkeypatch.setattr(polling, "time", Clock(sleeps.append))
    fetch_records = read.fetcher.fetch_records

    def counted(*arguments: Any, **settings: Any) -> Any:
        records, idle = fetch_records(*arguments, **settings)
        looks[idle and settings["timeout_ms"] > 0] += 1
        return records, idle

    read.fetcher.fetch_records = counted
    read.consumer._consumer.pause(TopicPartition(read.topic, 0))
    read.poll_until(lambda: looks[True] > 10)
    assert len(sleeps) == looks[True]


def test_a_broker_that_is_away_is_asked_as_seldom_as_the_backoff_says(
    replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: dict[object, list[float]] = {}
    connect = KafkaConnectionManager._connect

    async def counted(manager: Any, node: Any, connection: Any, **settings: Any) -> None:
        attempts.setdefault(node.node_id, []).append(time.monotonic())
        await connect(manager, node, connection, **settings)

    read = replay()
    read.poll_until(lambda: len(read.read) >= RECORDS)
    monkeypatch.setattr(KafkaConnectionManager, "_connect", counted)
    manager = read.fetcher._manager
    manager.config["proxy_url"] = f"http://127.0.0.1:{free_port()}"
    read.on_io_thread(lambda: [each.close(KafkaConnectionError()) for each in list(manager._conns.values())])
    read.poll_until(lambda: any(len(times) > 6 for times in attempts.values()))
    for times in attempts.values():
        for number, (before, after) in enumerate(pairwise(times)):
            assert after - before >= LEAST_JITTER * min(0.05 * 2**number, 1.0), attempts


def test_the_next_records_are_asked_for_when_the_first_of_an_answer_are_handed_out(
    replay: Callable[..., Replay],
) -> None:
    read = replay(max_poll_records=1, max_partition_fetch_bytes=ANSWER_BYTES)
    read.poll_until(lambda: bool(read.read))
    read.on_io_thread(lambda: None)
    assert read.in_hand
    assert read.answer_waits() or read.fetcher.in_flight_fetches()


def test_a_broker_gathers_only_what_is_not_there_yet(replay: Callable[..., Replay]) -> None:
    read = replay(max_partition_fetch_bytes=ANSWER_BYTES, fetch_min_bytes=1_000_000)
    fewer_fetches: list[bool] = []
    send = read.fetcher._manager.send

    def noted(request: Any, **settings: Any) -> Future:
        if isinstance(request, FetchRequest):
            fewer_fetches.append(request.min_bytes > 1)
        return send(request, **settings)

    read.fetcher._manager.send = noted
    read.poll_until(lambda: len(read.read) >= RECORDS)
    read.on_io_thread(lambda: None)
    assert not read.fetcher.in_flight_fetches()  # a commit would wait behind it
    read.poll_until(lambda: fewer_fetches[-1])
    behind = fewer_fetches[fewer_fetches.index(False) : -1]  # the broker has answered once, and told how much it has
    assert len(behind) > 2
    assert not any(behind)


def test_a_poll_asks_nothing_of_the_io_thread_while_it_has_records(
    replay: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = replay(max_poll_records=1, max_partition_fetch_bytes=ANSWER_BYTES)
    read.poll_until(lambda: bool(read.read))
    asked: list[object] = []
    run = NetworkSelector.run

    def counted(net: NetworkSelector, *call: Any) -> Any:
        asked.append(call)
        return run(net, *call)

    while len(read.read) < RECORDS // 2:
        read.on_io_thread(lambda: None)
        until(read.answer_waits, "an answer", every=0.001)
        with monkeypatch.context() as patched:
            patched.setattr(NetworkSelector, "run", counted)
            read.poll()
    assert not asked
    assert read.read == VALUES[: len(read.read)]


def test_every_record_of_all_partitions_comes_once_and_in_order(replay: Callable[..., Replay]) -> None:
    read = replay(partitions=3, max_poll_records=2, max_partition_fetch_bytes=ANSWER_BYTES)
    read.poll_until(lambda: len(read.read) >= RECORDS)
    for partition in range(3):
        assert [value for value in read.read if int(value or 0) % 3 == partition] == VALUES[partition::3]


def test_what_was_fetched_ahead_is_not_handed_out_from_another_place(replay: Callable[..., Replay]) -> None:
    read = replay(max_poll_records=1, max_partition_fetch_bytes=ANSWER_BYTES)
    read.poll_until(lambda: bool(read.read))
    read.on_io_thread(lambda: None)
    until(read.answer_waits, "an answer", every=0.001)
    read.consumer.seek(0, 3)
    read.read.clear()
    read.poll_until(lambda: len(read.read) >= RECORDS - 3)
    assert read.read == VALUES[3:]
