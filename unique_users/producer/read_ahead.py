"""Reading ahead: a thread reads blocks of a file before they are asked for."""

from collections.abc import Iterable, Iterator
from queue import Empty, Queue
from threading import Thread

BLOCKS_AHEAD_MAX = 16  # of half a MB at most, see decompression.py
IDLE_SECONDS = 0.1
THREAD_NAME = "read ahead"


def read_ahead(blocks: Iterable[bytes], bytes_max: int) -> Iterator[bytes]:
    """The same bytes, as they are available, joined to about `bytes_max`.

    While there are none, it yields an empty block ten times a second, so that a loop that reads a pipe can watch other
    things as well. An error comes after the bytes before it. The thread ends with the process, even in the middle of a
    read.
    """
    queue: Queue[bytes | Exception | None] = Queue(BLOCKS_AHEAD_MAX)
    Thread(target=_read, args=(blocks, queue), name=THREAD_NAME, daemon=True).start()
    held: list[bytes] = []
    held_bytes = 0
    while True:
        try:
            block = queue.get(block=not held, timeout=IDLE_SECONDS)
        except Empty:
            yield b"".join(held)
            held, held_bytes = [], 0
            continue
        if isinstance(block, bytes):
            held.append(block)
            held_bytes += len(block)
            if held_bytes < bytes_max:
                continue
        yield b"".join(held)
        held, held_bytes = [], 0
        if block is None:
            return
        if isinstance(block, Exception):
            raise block


def _read(blocks: Iterable[bytes], queue: "Queue[bytes | Exception | None]") -> None:
    try:
        for block in blocks:
            queue.put(block)
    except Exception as error:  # noqa: BLE001 - raised where the bytes are read
        queue.put(error)
    else:
        queue.put(None)
