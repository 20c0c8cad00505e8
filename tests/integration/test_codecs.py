"""Every codec of Kafka, with each client and from Java: what is sent is read, after the README's install alone."""

import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.record import MemoryRecords
from repository import ROOT, command
from running import Running

from unique_users.demo.sample import frames as sample_frames

pytestmark = pytest.mark.slow

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}  # and the bits that a batch has for it
CLIENTS = ["kafka-python", "librdkafka"]
FRAMES = 3_000
TEXT = b"\n".join(sample_frames(FRAMES, seed=3)) + b"\n"


def packed_with(running: Running) -> set[int]:
    """The codecs of the batches in `feed`, all of which are read."""
    seen: set[int] = set()

    class Watched(MemoryRecords):  # type: ignore[misc]
        def next_batch(self) -> Any:
            batch = super().next_batch()
            if batch is not None:
                seen.add(batch.compression_type)
            return batch

    partition = TopicPartition(running.topic("feed"), 0)
    with (
        patch("kafka.consumer.fetcher.MemoryRecords", Watched),
        KafkaConsumer(bootstrap_servers=running.broker) as consumer,
    ):
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        while consumer.position(partition) < FRAMES:
            consumer.poll(timeout_ms=1_000)
    return seen


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("codec", CODECS)
def test_the_producer_packs_with_every_codec_and_the_bucketer_reads_it(
    running: Running, codec: str, client: str
) -> None:
    running.settings = [f"client={client}", f"producer.compression={codec}"]
    assert f"{FRAMES:,} frames acknowledged" in running.run("producer", "-", stdin=TEXT).stderr
    assert packed_with(running) == {CODECS[codec]}
    assert running.counts() == running.recount(TEXT)


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_java_producer_has_packed_is_read_by_both_clients(running: Running, tmp_path: Path, codec: str) -> None:
    running.run("bucketer", "--until-caught-up")  # makes the topics
    tool = ["tool", "kafka-console-producer", "--topic", running.topic("feed"), "--compression-codec", codec]
    line = [*command("broker"), "--set", f"kafka.bootstrap_servers={running.broker}"]
    subprocess.run(
        [*line, "--config", str(ROOT / "config.yaml"), *tool], input=TEXT, check=True, timeout=120, cwd=tmp_path
    )
    assert packed_with(running) == {CODECS[codec]}
    for client in CLIENTS:
        running.settings = [f"client={client}", f"bucketer.group={running.name}-{client}"]
        done = running.run("bucketer", "--until-caught-up")
        assert f"{FRAMES:,} read = {FRAMES:,} accepted + 0 rejected" in done.stdout
