"""Older copies of a broker's logs: what it holds again after a restore, or after it lost what was not on its disk."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from unique_users.local_kafka.broker import LocalKafka


def copied(kafka: LocalKafka, to: Path) -> Path:
    """A copy of the broker's logs as they are at one moment. It makes its indexes anew, which are large."""
    broker = psutil.Process(kafka.pid)
    broker.suspend()
    shutil.copytree(kafka.data / "kafka", to, ignore=shutil.ignore_patterns("*.index", "*.timeindex"))
    broker.resume()
    return to


def put_back(kafka: LocalKafka, copy: Path, topics: Sequence[str]) -> None:
    """Let the broker, which does not run, have the logs of the copy again: those of one partition of these topics."""
    logs = kafka.data / "kafka"
    if not topics:
        shutil.rmtree(logs)
        shutil.copytree(copy, logs)
    for topic in topics:
        shutil.rmtree(logs / f"{topic}-0")
        shutil.copytree(copy / f"{topic}-0", logs / f"{topic}-0")
