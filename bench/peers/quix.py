"""Unique users per minute with Quix Streams.

    python bench/peers/quix.py --bootstrap-servers localhost:9092 --topic feed --frames 1000000 --out result.json

Exact: a minute's users are in the state, in blocks of about 1 kB, and as a set in memory, which is loaded from the
blocks. One state entry for each user costs a third more: each is a record of the changelog. State is in RocksDB, with a
changelog topic; positions and state are committed together every 5 s, as is Quix's default. The time ends after the
last of these commits. One partition.

--shape direct: counts straight from the topic, which has no keys, so all state has one prefix.
--shape rekeyed: writes a record for each frame, keyed by its minute, to a topic of its own, and counts that. Both in
one application, as its group_by does; group_by itself leaves out the topic when there is one partition only.
"""

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from peer import SILENCE_SECONDS_MAX, Frame, Stopwatch, Task, finish, task
from quixstreams import Application, State, message_context
from quixstreams.models import Deserializer, SerializationContext, Serializer, TopicConfig

COMMIT_SECONDS = 5.0
BLOCK_BYTES = 1_000
END = b"\xff"  # of a user in a block; no UTF-8 text holds it
SHAPES = ("direct", "rekeyed")

_CONSUMER = {
    "fetch.queue.backoff.ms": 5,  # with a full queue the fetcher sleeps for so long
    "fetch.message.max.bytes": 4 * 1024 * 1024,  # as they come over the network, compressed
    "queued.min.messages": 50_000,
}
_PRODUCER = {
    "compression.type": "lz4",
    "linger.ms": 50,
    "batch.size": 1_000_000,
    "batch.num.messages": 50_000,
    "queue.buffering.max.messages": 500_000,
}


class Counted(msgspec.Struct, gc=False):
    """A user in a minute, as the state wants them."""

    minute: bytes
    uid: bytes


class FrameDeserializer(Deserializer):  # type: ignore[misc]
    """A frame's minute and user. Starts the watch at the first frame."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self._watch = watch
        self._decode = msgspec.json.Decoder(Frame).decode

    def __call__(self, value: bytes, ctx: SerializationContext) -> Counted:  # noqa: ARG002
        if not self._watch.running:
            self._watch.start()
        frame = self._decode(value)
        return Counted(b"%d" % (frame.ts - frame.ts % 60), frame.uid.encode())


class UidSerializer(Serializer):  # type: ignore[misc]
    """The user alone: the minute is the record's key."""

    def __call__(self, value: Counted, ctx: SerializationContext) -> bytes:  # noqa: ARG002
        return value.uid


class Minute:
    """What memory knows of a minute: its users, and the block of its state that is not full yet."""

    def __init__(self) -> None:
        self.users: set[bytes] = set()
        self.number = 0
        self.block = b""


class UserCount:
    """Counts users in a state until `stop` is called, after `frames_max` frames.

    `counts` is what the state says, `frames` how many frames were looked at.
    """

    def __init__(self, frames_max: int, stop: Callable[[], None]) -> None:
        self.counts: dict[int, int] = {}
        self.frames = 0
        self._frames_max = frames_max
        self._stop = stop
        self._minutes: dict[bytes, Minute] = {}
        self._next_offset = 0

    def direct(self, value: Counted, state: State) -> None:
        """One user of a minute, with the minute in the state's keys."""
        self._count(value.minute, value.uid, value.minute + b"|", state)

    def rekeyed(self, value: bytes, key: bytes, _timestamp: int, _headers: Any, state: State) -> None:
        """One user of a minute, with the minute as the state's prefix."""
        self._count(key, value, b"", state)

    def _count(self, start: bytes, uid: bytes, prefix: bytes, state: State) -> None:
        self.frames += 1
        if self.frames == self._frames_max:
            self._stop()
        self._forget_after_gap()
        minute = self._minutes.get(start)
        if minute is None:
            minute = self._minutes[start] = _loaded(prefix, state)
        if uid in minute.users:
            return
        minute.users.add(uid)
        if len(minute.block) >= BLOCK_BYTES:
            minute.number, minute.block = minute.number + 1, b""
        minute.block += uid + END
        state.set_bytes(prefix + b"%d" % minute.number, minute.block)
        self.counts[int(start)] = len(minute.users)

    def _forget_after_gap(self) -> None:
        # After a rebalance or a step back the state may be older or newer than memory. Either shows in the offsets.
        offset = message_context().offset
        if offset != self._next_offset:
            self._minutes.clear()
        self._next_offset = offset + 1


def _loaded(prefix: bytes, state: State) -> Minute:
    """A minute as its state has it, empty when there is none."""
    minute = Minute()
    while (block := state.get_bytes(prefix + b"%d" % minute.number)) is not None:
        minute.users.update(block.split(END)[:-1])
        minute.number, minute.block = minute.number + 1, block
    minute.number = max(0, minute.number - 1)
    return minute


def application(asked: Task, name: str, state: Path) -> Application:
    """An application with a group, a state and topics that nobody else has."""
    return Application(
        asked.bootstrap_servers,
        consumer_group=name,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_SECONDS,
        consumer_extra_config=_CONSUMER,
        producer_extra_config=_PRODUCER,
        state_dir=state,
        loglevel=None,
        broker_availability_timeout=0,  # asks both clients after each frame
    )


def main() -> None:
    """Count, and write the result."""
    asked = task(__doc__, SHAPES)
    name = f"quix-{asked.shape}-{uuid.uuid4().hex[:8]}"
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as state:
        app = application(asked, name, Path(state))
        count = UserCount(asked.frames, app.stop)
        feed = app.dataframe(app.topic(asked.topic, value_deserializer=FrameDeserializer(watch)))
        if asked.shape == "direct":
            feed.update(count.direct, stateful=True)
        else:
            minutes = app.topic(
                name,
                value_serializer=UidSerializer(),
                value_deserializer="bytes",
                key_serializer="bytes",
                key_deserializer="bytes",
                config=TopicConfig(num_partitions=1, replication_factor=1),
            )
            feed.to_topic(minutes, key=lambda value: value.minute)
            app.dataframe(minutes).update(count.rekeyed, metadata=True, stateful=True)
        app.run(timeout=SILENCE_SECONDS_MAX, collect=False)
        watch.stop()
    finish(asked, count.frames, count.counts, watch)


if __name__ == "__main__":
    main()
