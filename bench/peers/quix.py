"""Unique users per minute with Quix Streams.

    python bench/peers/quix.py --bootstrap-servers localhost:9092 --topic feed --frames 1000000 --out result.json

Exact: a minute's users are in the state, in blocks of about 1 kB, and as a set in memory, which is loaded from the
blocks. One state entry for each user costs a third more: each is a record of the changelog. State is in RocksDB, with a
changelog topic; positions and state are committed together every 5 s, as is Quix's default. The time ends after the
last of these commits. One partition.

--shape direct: counts straight from the topic, which has no keys, so all state has one prefix.
--shape rekeyed: writes a record for each frame, keyed by its minute, to a topic of its own, and counts that. Both in
one application, as its group_by does; group_by itself leaves out the topic when there is one partition only.

With --state another launch with the same name goes on where this one was. --counts publishes each change of a count.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from peer import NO_FRAME, SILENCE_SECONDS_MAX, Frame, Stopwatch, Task, finish, task
from quixstreams import Application, State, message_context
from quixstreams.models import Deserializer, SerializationContext, Serializer, TopicConfig
from quixstreams.models.serializers import IgnoreMessage

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

_SETTINGS: dict[str, Any] = {
    "auto_offset_reset": "earliest",
    "commit_interval": COMMIT_SECONDS,
    "consumer_extra_config": _CONSUMER,
    "producer_extra_config": _PRODUCER,
    "loglevel": None,
    "broker_availability_timeout": 0,  # asks both clients after each frame
}


class Counted(msgspec.Struct, gc=False):
    """A user in a minute, as the state wants them."""

    minute: bytes
    uid: bytes


class FrameDeserializer(Deserializer):  # type: ignore[misc]
    """A frame's minute and user. Starts the watch at the first frame, and leaves out what is none."""

    def __init__(self, watch: Stopwatch, rejected: Callable[[], None]) -> None:
        super().__init__()
        self._watch = watch
        self._rejected = rejected
        self._decode = msgspec.json.Decoder(Frame).decode

    def __call__(self, value: bytes, ctx: SerializationContext) -> Counted:  # noqa: ARG002
        if not self._watch.running:
            self._watch.start()
        try:
            frame = self._decode(value)
        except NO_FRAME as error:
            self._rejected()
            raise IgnoreMessage from error
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
        self.frames = self.rejected = 0
        self.changed = b""  # the minute whose count the last frame changed
        self._frames_max = frames_max
        self._stop = stop
        self._minutes: dict[bytes, Minute] = {}
        self._next_offset = 0

    def reject(self) -> None:
        """An invalid frame was read."""
        self.rejected += 1
        self._looked_at()

    def direct(self, value: Counted, state: State) -> None:
        """One user of a minute, with the minute in the state's keys."""
        self._count(value.minute, value.uid, value.minute + b"|", state)

    def rekeyed(self, value: bytes, key: bytes, _timestamp: int, _headers: Any, state: State) -> None:
        """One user of a minute, with the minute as the state's prefix."""
        self._count(key, value, b"", state)

    def newest(self) -> bytes:
        """The count of the minute that has changed."""
        return b"%d" % self.counts[int(self.changed)]

    def _count(self, start: bytes, uid: bytes, prefix: bytes, state: State) -> None:
        self.frames += 1
        self.changed = b""
        self._looked_at()
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
        self.changed = start

    def _looked_at(self) -> None:
        if self.frames + self.rejected == self._frames_max:
            self._stop()

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
    settings = dict(_SETTINGS)
    if asked.state:  # the next launch takes over at once from one that was killed
        settings["consumer_extra_config"] = {**_CONSUMER, "group.instance.id": name}
    return Application(asked.bootstrap_servers, consumer_group=name, state_dir=state, **settings)


def build(app: Application, asked: Task, count: UserCount, watch: Stopwatch) -> None:
    """The flow in one of the two shapes."""
    feed = app.dataframe(app.topic(asked.topic, value_deserializer=FrameDeserializer(watch, count.reject)))
    if asked.shape == "direct":
        counted = feed.update(count.direct, stateful=True)
    else:
        minutes = app.topic(
            f"{asked.name}-minutes",
            value_serializer=UidSerializer(),
            value_deserializer="bytes",
            key_serializer="bytes",
            key_deserializer="bytes",
            config=TopicConfig(num_partitions=1, replication_factor=1),
        )
        feed.to_topic(minutes, key=lambda value: value.minute)
        counted = app.dataframe(minutes).update(count.rekeyed, metadata=True, stateful=True)
    if asked.counts:
        changes = counted.filter(lambda _: bool(count.changed)).apply(lambda _: count.newest())
        counts = app.topic(asked.counts, value_serializer="bytes", key_serializer="bytes")
        changes.to_topic(counts, key=lambda _: count.changed)


def main() -> None:
    """Count, and write the result."""
    asked = task(__doc__, SHAPES)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as place:
        app = application(asked, asked.name, asked.state or Path(place))
        count = UserCount(asked.frames, app.stop)
        build(app, asked, count, watch)
        app.run(timeout=SILENCE_SECONDS_MAX, collect=False)
        watch.stop()
    settings = len(_SETTINGS) - 2 + len(_CONSUMER) + len(_PRODUCER)
    finish(asked, count.frames, count.counts, watch, rejected=count.rejected, settings=settings)


if __name__ == "__main__":
    main()
