"""Unique users per minute with Bytewax.

    python bench/peers/bytewax_count.py --bootstrap-servers localhost:9092 --topic feed --frames 1000000 --out x.json

Exact. A batch of frames becomes one item for each of its minutes, and a stateful step holds the set of each minute.
Nothing is durable without --state: no recovery store, no output topic. With it, the sets that changed and the position
are saved together every 5 s, as SQLite, and the next launch goes on from there; --counts publishes.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import bytewax.operators as op
import msgspec
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.inputs import StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main
from peer import NO_FRAME, SILENCE_SECONDS_MAX, Frame, Stopwatch, Task, finish, task

BATCH_FRAMES = 5_000
SAVE_EVERY = timedelta(seconds=5)

_CONSUMER = {
    "log_level": 3,  # Bytewax gives these settings to an admin client too, which warns of each
    "fetch.queue.backoff.ms": 5,  # with a full queue the fetcher sleeps for so long
    "fetch.message.max.bytes": 4 * 1024 * 1024,  # as they come over the network, compressed
    "queued.min.messages": 50_000,
}


class FirstFrames(StatefulSourcePartition):  # type: ignore[misc]
    """A partition up to so many frames, or up to a long silence. The watch starts at the first of them."""

    def __init__(self, partition: Any, frames: int, watch: Stopwatch) -> None:
        self._partition = partition
        self._watch = watch
        self._missing, self._all = frames, frames
        self._heard = time.monotonic()

    def next_batch(self) -> list[Any]:
        if not self._missing or time.monotonic() - self._heard > SILENCE_SECONDS_MAX:
            raise StopIteration
        if self._missing == self._all:
            self._watch.start()  # again and again, until a batch is the first one
        batch: list[Any] = self._partition.next_batch()[: self._missing]
        if batch:
            self._missing -= len(batch)
            self._heard = time.monotonic()
        return batch

    def snapshot(self) -> Any:
        return self._partition.snapshot()

    def close(self) -> None:
        self._partition.close()


class Feed(KafkaSource):  # type: ignore[misc]
    """Bytewax's own Kafka source, which otherwise never ends."""

    def __init__(self, asked: Task, watch: Stopwatch) -> None:
        super().__init__([asked.bootstrap_servers], [asked.topic], add_config=_CONSUMER, batch_size=BATCH_FRAMES)
        self._frames = asked.frames
        self._watch = watch

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> FirstFrames:
        missing = self._frames - (resume_state or 0)
        return FirstFrames(super().build_part(step_id, for_part, resume_state), missing, self._watch)


class Users(StatefulBatchLogic):  # type: ignore[misc]
    """The users of one minute."""

    def __init__(self, uids: set[str] | None) -> None:
        self._uids = uids or set()

    def on_batch(self, values: list[list[str]]) -> tuple[list[tuple[int, int]], bool]:
        self._uids.update(*values)
        return [(sum(map(len, values)), len(self._uids))], StatefulBatchLogic.RETAIN

    def snapshot(self) -> set[str]:
        return self._uids.copy()


class Counts(StatelessSinkPartition, DynamicSink):  # type: ignore[misc]
    """The end of the flow: the newest count of each minute, and how many frames were looked at."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.frames = 0

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> "Counts":
        return self

    def write_batch(self, items: list[tuple[str, tuple[int, int]]]) -> None:
        for minute, (frames, users) in items:
            self.counts[int(minute)] = users
            self.frames += frames


_decode = msgspec.json.Decoder(Frame).decode


class Minutes:
    """Frames by their minute. Invalid frames are counted, and left out."""

    def __init__(self) -> None:
        self.rejected = 0

    def of(self, batch: list[Any]) -> list[tuple[str, list[str]]]:
        """The users of a batch by their minute; Bytewax wants keys to be texts."""
        minutes: dict[int, list[str]] = {}
        for message in batch:
            try:
                frame = _decode(message.value)
            except NO_FRAME:
                self.rejected += 1
                continue
            start = frame.ts - frame.ts % 60
            if start in minutes:
                minutes[start].append(frame.uid)
            else:
                minutes[start] = [frame.uid]
        return [(str(start), uids) for start, uids in minutes.items()]


def publishable(items: list[tuple[str, tuple[int, int]]]) -> Iterator[Any]:
    """The counts as records, with the minute as the key."""
    return (KafkaSinkMessage(minute.encode(), b"%d" % users) for minute, (_, users) in items)


def recovery(asked: Task) -> Any:
    """Where the flow saves what it has, if anywhere."""
    if asked.state is None:
        return None
    asked.state.mkdir(parents=True, exist_ok=True)
    if not any(asked.state.iterdir()):
        init_db_dir(asked.state, 1)
    return RecoveryConfig(asked.state)


def main() -> None:
    """Count, and write the result."""
    asked = task(__doc__)
    watch, counts, minutes = Stopwatch(), Counts(), Minutes()
    flow = Dataflow("unique_users")
    messages = op.input("feed", flow, Feed(asked, watch))
    users = op.stateful_batch("users", op.flat_map_batch("by_minute", messages, minutes.of), Users)
    op.output("counts", users, counts)
    if asked.counts:
        records = op.flat_map_batch("publishable", users, publishable)
        op.output("publish", records, KafkaSink([asked.bootstrap_servers], asked.counts))
    run_main(flow, epoch_interval=SAVE_EVERY, recovery_config=recovery(asked))
    watch.stop()
    settings = len(_CONSUMER) + 2  # and the two of a batch and of a save
    finish(asked, counts.frames, counts.counts, watch, rejected=minutes.rejected, settings=settings)


if __name__ == "__main__":
    main()
