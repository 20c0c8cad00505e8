"""Unique users per minute with Faust (faust-streaming).

    python bench/peers/faust_count.py --bootstrap-servers localhost:9092 --topic feed --frames 100000 --out result.json

Exact, and nothing durable: the sets are a dictionary of the agent. In a table of Faust each new user would write the
whole set of the minute to the changelog topic. Positions are committed, as Faust does by default.
"""

import asyncio
import logging
import tempfile
import uuid
from contextlib import suppress
from typing import Any

import faust
import msgspec
from peer import NO_FRAME, SILENCE_SECONDS_MAX, Frame, Stopwatch, Task, finish, task

_SETTINGS: dict[str, Any] = {
    "autodiscover": False,
    "web_enabled": False,
    "topic_disable_leader": True,  # a topic that only tables with timers need
    "topic_allow_declare": False,
    "consumer_auto_offset_reset": "earliest",
    "consumer_max_fetch_size": 4 * 1024 * 1024,
    "broker_max_poll_records": 5_000,
    "broker_check_crcs": False,
    "stream_buffer_maxsize": 16_384,
    "stream_wait_empty": False,
}


class UserCount:
    """The users of each minute, and how many frames were looked at."""

    def __init__(self, frames: int, watch: Stopwatch) -> None:
        self.users: dict[int, set[str]] = {}
        self.frames = self.rejected = 0
        self.done = asyncio.Event()
        self._all = frames
        self._watch = watch

    async def agent(self, stream: Any) -> None:
        """Count until all frames were there."""
        decode = msgspec.json.Decoder(Frame).decode
        async for value in stream:
            if not self.frames:
                self._watch.start()
            self.frames += 1
            try:
                frame = decode(value)
            except NO_FRAME:
                self.rejected += 1
            else:
                start = frame.ts - frame.ts % 60
                if start in self.users:
                    self.users[start].add(frame.uid)
                else:
                    self.users[start] = {frame.uid}
            if self.frames == self._all:
                self._watch.stop()
                self.done.set()
                return


async def run(asked: Task, directory: str, watch: Stopwatch) -> UserCount:
    """Count until all frames were there, or none came for long."""
    app = faust.App(
        f"faust-{uuid.uuid4().hex[:8]}",
        broker=f"kafka://{asked.bootstrap_servers}",
        datadir=directory,
        **_SETTINGS,
    )
    count = UserCount(asked.frames, watch)
    app.agent(app.topic(asked.topic, value_serializer="raw"), name="count")(count.agent)
    await app.start()
    try:
        frames = -1
        while frames != count.frames and not count.done.is_set():
            frames = count.frames
            with suppress(TimeoutError):
                await asyncio.wait_for(count.done.wait(), SILENCE_SECONDS_MAX)
    finally:
        await app.stop()
    return count


def main() -> None:
    """Count, and write the result."""
    asked = task(__doc__)
    logging.basicConfig(level=logging.ERROR)  # when a part of Faust crashes, only its log says so
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as directory:
        count = asyncio.run(run(asked, directory, watch))
    counts = {start: len(uids) for start, uids in count.users.items()}
    counted = count.frames - count.rejected
    finish(asked, counted, counts, watch, rejected=count.rejected, settings=len(_SETTINGS))


if __name__ == "__main__":
    main()
