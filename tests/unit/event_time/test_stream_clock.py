from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from repository import ROOT

from unique_users.event_time.stream_clock import BLOCK, MEDIANS, StreamClock
from unique_users.messages.offset_metadata import OffsetMetadata

NOW = 1_468_244_384
DAY = 86_400
YEAR_2300 = 10_413_792_000
METADATA_CHARACTERS_MAX = 1_100
SAVED = ROOT / "tests" / "data" / "version-0.1"


class NaiveClock:
    """The clock as its docstring describes it: all accepted times are kept, and looked at anew for each frame."""

    def __init__(self, allowed_lateness_seconds: int) -> None:
        self.allowed = allowed_lateness_seconds
        self.times: list[int] = []

    def now(self) -> int | None:
        blocks = [self.times[at : at + 101] for at in range(0, len(self.times) - 100, 101)]
        medians = [sorted(block)[50] for block in blocks]
        windows = [sorted(medians[max(0, end - 9) : end]) for end in range(1, len(medians) + 1)]
        return max((window[(len(window) - 1) // 2] for window in windows), default=None)

    def admits(self, ts: int) -> bool:
        if self.allowed and (now := self.now()) is not None and ts < now - self.allowed:
            return False
        self.times.append(ts)
        return True


def assert_as_the_naive_clock(times: Sequence[int], cuts: Sequence[int], allowed: int) -> None:
    """At each cut the clock goes through its metadata, as at a restart."""
    naive, clock = NaiveClock(allowed), StreamClock(allowed)
    expected = [index for index, ts in enumerate(times) if not naive.admits(ts)]
    edges = [0, *sorted(cut for cut in cuts if cut < len(times)), len(times)]
    found = []
    for begin, end in pairwise(edges):
        clock = StreamClock.from_metadata(allowed, clock.to_metadata())
        found += [begin + index for index in clock.admit(times[begin:end])]
    assert found == expected
    assert clock.now() == naive.now()


# A stream that runs forward with noise, jumps, and frames around the edge of the allowed lateness.
steps = st.lists(
    st.tuples(st.sampled_from([-200, -101, -100, -99, -50, -1, 0, 1, 2, 3, 50, 150]), st.integers(1, 60)), max_size=40
)


@settings(max_examples=100)
@given(steps, st.lists(st.integers(0, 2_400), max_size=8), st.sampled_from([0, 1, 40, 100]))
@example([(0, 60), (1, 60), (-101, 60), (3, 60)], [], 100)
def test_any_chunking_and_any_restart_judges_as_the_naive_clock_does(
    steps: list[tuple[int, int]], cuts: list[int], allowed: int
) -> None:
    times = []
    now = NOW
    for step, frames in steps:
        now += max(0, step)
        times += [now + min(0, step)] * frames
    assert_as_the_naive_clock(times, cuts, allowed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [7, 101, 250, 5_000])
def test_a_long_noisy_stream_is_judged_as_by_the_naive_clock(seed: int, chunk: int) -> None:
    random = Random(seed)
    times = []
    now = NOW
    for _ in range(2_000):
        now += random.choice([0, 0, 1, 1, 5, 20, -30])
        times.append(now - random.choice([0, 0, 0, random.randrange(400), 100, 101, -random.randrange(10_000)]))
    assert_as_the_naive_clock(times, range(chunk, len(times), chunk), 100)


def test_the_clock_judges_from_the_101st_time_on() -> None:
    clock = StreamClock(DAY)
    assert clock.admit([NOW] * (BLOCK - 1) + [0]) == []
    assert clock.now() == NOW
    assert clock.watermark() == NOW - DAY
    assert clock.admit([0, NOW - DAY - 1, NOW - DAY, NOW]) == [0, 1]


def test_late_times_do_not_move_the_clock() -> None:
    clock = StreamClock(DAY)
    clock.admit([NOW] * 202)
    assert clock.admit([0] * 5_000) == list(range(5_000))
    assert clock.now() == NOW


def test_one_frame_of_the_year_2300_makes_nothing_late() -> None:
    for first in (0, 50, 101, 500):
        times = [NOW + second for second in range(3_000)]
        times.insert(first, YEAR_2300)
        assert StreamClock(DAY).admit(times) == []


def test_half_a_window_of_wrong_times_does_not_move_the_clock() -> None:
    clock = StreamClock(DAY)
    clock.admit([NOW] * BLOCK * MEDIANS)
    clock.admit([YEAR_2300] * (BLOCK * MEDIANS // 2 - BLOCK // 2))
    assert clock.now() == NOW


def test_the_clock_never_goes_back() -> None:
    """The stream goes back by half a day: all of it is accepted, and the promise made before is kept."""
    clock = StreamClock(DAY)
    clock.admit([NOW] * 1_111)
    assert clock.admit([NOW - DAY // 2] * 5_000) == []
    assert clock.now() == NOW
    assert clock.admit([NOW - DAY - 1]) == [0]


def test_with_an_allowed_lateness_of_0_nothing_is_late_but_the_clock_goes() -> None:
    clock = StreamClock(0)
    assert clock.admit([NOW] * 505) == []
    assert clock.admit([0, 1, YEAR_2300]) == []
    assert clock.now() == NOW
    assert clock.watermark() is None


def test_a_promise_outlives_the_allowed_lateness_it_was_made_with() -> None:
    """More lateness is allowed after a restart: what is gone elsewhere stays late until the clock has moved on."""
    clock = StreamClock(DAY)
    clock.admit([NOW] * 202)
    later = StreamClock.from_metadata(10 * DAY, clock.to_metadata())
    assert later.watermark() == NOW - DAY
    assert later.admit([NOW - DAY - 1, NOW]) == [0]
    assert StreamClock.from_metadata(60, clock.to_metadata()).watermark() == NOW - 60


@pytest.mark.parametrize("seed", range(5))
def test_metadata_fits_however_wild_the_times_are_and_judges_the_same(seed: int) -> None:
    random = Random(seed)
    clock = StreamClock(7 * DAY)
    clock.admit([random.randrange(253_402_300_799) for _ in range(1_500)])
    text = clock.to_metadata()
    assert len(text) <= METADATA_CHARACTERS_MAX
    back = StreamClock.from_metadata(7 * DAY, text)
    more = [random.randrange(253_402_300_799) for _ in range(3_000)]
    assert back.admit(more) == clock.admit(more)
    assert back.to_metadata() == clock.to_metadata()


def test_a_clock_of_the_version_before_is_continued() -> None:
    metadata = OffsetMetadata.parsed((SAVED / "commit-metadata.txt").read_text(encoding="utf-8").strip())
    clock = StreamClock.from_metadata(DAY, metadata.clock)
    assert clock.now() == 1_468_244_638
    assert clock.admit([1_468_244_638 - DAY - 1, 1_468_244_638 - DAY]) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "another program's",
        "clock1:",
        "clock2:",
        "clock2:ü",
        "clock2:~~~",
        "clock2:0000",
        "clock3:" + StreamClock(0).to_metadata().removeprefix("clock2:"),
        StreamClock(0).to_metadata()[:-3],
        " " + StreamClock(0).to_metadata(),
    ],
)
def test_the_text_of_another_program_makes_a_new_clock(text: str) -> None:
    clock = StreamClock.from_metadata(DAY, text)
    assert clock.now() is None
    assert clock.admit([NOW] * 101) == []


@settings(max_examples=80)
@given(st.text() | st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)).map("clock2:".__add__))
def test_no_text_is_too_strange_for_a_clock(text: str) -> None:
    StreamClock.from_metadata(DAY, text).admit([NOW])
