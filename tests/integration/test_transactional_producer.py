"""A producer that sends frames in transactions, on a real broker: what it leaves and leaves open, with the scripts."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import config_for
from confluent_kafka import Producer
from patience import until
from running import Running

from unique_users.clients.connect import get_admin
from unique_users.config.schema import Topic

pytestmark = pytest.mark.slow

Transaction = Callable[[int, str], None]


@pytest.fixture(params=["kafka-python", "librdkafka"])
def scripts(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> Iterator[Running]:
    """The scripts; frames are of 2016, and reports come each second."""
    settings = [f"client={request.param}", "bucketer.report_seconds=1", "counter.report_seconds=1"]
    scripts = Running(broker, tmp_path, settings)
    admin = get_admin(config_for(broker))
    admin.create(Topic(name=scripts.topic("feed")))
    admin.close()
    yield scripts
    scripts.end_all()


@pytest.fixture
def transaction(scripts: Running) -> Transaction:
    """Sends frames in a transaction that is ended as told."""
    producer: Any = Producer(
        {"bootstrap.servers": scripts.broker, "transactional.id": uuid.uuid4().hex, "log_level": 0}
    )
    producer.init_transactions(60)

    def transaction(frames: int, end: str) -> None:
        producer.begin_transaction()
        for number in range(frames):
            producer.produce(scripts.topic("feed"), b'{"uid": "u%d", "ts": 1468244400}' % number)
        producer.flush()
        if end == "commit":
            producer.commit_transaction(60)
        elif end == "abort":
            producer.abort_transaction(60)

    return transaction


def feed_lag(scripts: Running) -> tuple[int, int, int]:
    """What waits in feed, what of that in a transaction, and how many users are counted."""
    out = scripts.run("counter", "--until-caught-up", "--format=json").stdout
    lines = [json.loads(line) for line in out.splitlines()]
    users = sum(line["unique_users"] for line in lines if "start" in line)
    return lines[-1]["feed_lag"], lines[-1]["in_transactions"], users


@pytest.mark.parametrize("ends", [["commit"], ["commit", "abort"], ["abort"]], ids=" then ".join)
def test_catching_up_ends_behind_what_transactions_leave_and_there_is_no_lag(
    scripts: Running, transaction: Transaction, ends: list[str]
) -> None:
    for end in ends:
        transaction(3, end)
    users = 3 * ("commit" in ends)
    for _ in range(2):  # the second time there is nothing to read but what is left
        lines = scripts.run("bucketer", "--until-caught-up", "--format=json").stdout.splitlines()
        assert json.loads(lines[-1])["lag"] == 0
        assert feed_lag(scripts) == (0, 0, users)


def test_what_is_in_an_open_transaction_is_told_and_counted_once_it_is_committed(
    scripts: Running, transaction: Transaction
) -> None:
    transaction(3, "commit")
    transaction(4, "")
    bucketer = scripts.start("bucketer")
    waiting = "4 frames wait behind an open transaction"
    until(lambda: waiting in scripts.said("bucketer", "out"), lambda: f"{waiting}: {scripts.said('bucketer', 'out')}")
    assert scripts.end(bucketer) == 0
    scripts.run("bucketer", "--until-caught-up")
    assert feed_lag(scripts) == (0, 4, 3)
    text = scripts.run("counter", "--until-caught-up").stdout
    assert waiting in text
