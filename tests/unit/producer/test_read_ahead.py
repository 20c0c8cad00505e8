from collections.abc import Iterator
from threading import Event

import pytest
from patience import LIMIT_SECONDS

from unique_users.producer.read_ahead import BLOCKS_AHEAD_MAX, read_ahead


@pytest.mark.parametrize("bytes_max", [1, 70, 1_000_000])
@pytest.mark.parametrize("blocks", [0, 1, 3, 500])
def test_all_bytes_come_in_order(blocks: int, bytes_max: int) -> None:
    numbers = [b"%010d" % number for number in range(blocks)]
    seen = list(read_ahead(iter(numbers), bytes_max))
    assert b"".join(seen) == b"".join(numbers)
    assert all(len(block) < bytes_max + 10 for block in seen)


def test_what_is_there_comes_at_once_and_empty_blocks_until_there_is_more() -> None:
    more = Event()

    def blocks() -> Iterator[bytes]:
        yield b"a"
        yield b"bc"
        assert more.wait(LIMIT_SECONDS)
        yield b"d"

    ahead = read_ahead(blocks(), 500)
    early = b""
    while len(early) < 3:
        early += next(ahead)
    assert early == b"abc"
    assert next(ahead) == b""
    more.set()
    assert b"".join(ahead) == b"d"


def test_an_error_comes_behind_the_bytes_before_it() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"12"
        yield b"3"
        message = "damaged"
        raise ValueError(message)

    seen: list[bytes] = []
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(read_ahead(blocks(), 500))
    assert b"".join(seen) == b"123"


def test_no_more_is_read_ahead_than_it_says() -> None:
    read = 0
    full = Event()

    def blocks() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            if read > BLOCKS_AHEAD_MAX:
                full.set()
            yield b"x"

    ahead = read_ahead(blocks(), 1)
    assert next(ahead) == b"x"
    assert full.wait(LIMIT_SECONDS)
    assert read <= BLOCKS_AHEAD_MAX + 2
