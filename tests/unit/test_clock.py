from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unique_users.clock import JUDGES_FROM, METADATA_BYTES_MAX, WINDOW, StreamClock

NOW = 1_468_244_384
DAY = 86_400
YEAR_2300 = 10_413_792_000


class NaiveClock:
    """The clock as its docstring describes it: sorted anew for each frame."""

    def __init__(self, retention_seconds: int) -> None:
        self.retention = retention_seconds
        self.times: list[int] = []

    def admits(self, ts: int) -> bool:
        window = sorted(self.times[-1_001:])
        judges = len(window) >= 101 and self.retention
        if judges and ts < window[(len(window) - 1) // 2] - self.retention:
            return False
        self.times.append(ts)
        return True


def assert_as_the_naive_clock(times: Sequence[int], cuts: Sequence[int], retention: int) -> None:
    naive, clock = NaiveClock(retention), StreamClock(retention)
    expected = [index for index, ts in enumerate(times) if not naive.admits(ts)]
    edges = [0, *sorted(cut for cut in cuts if cut < len(times)), len(times)]
    found = [begin + index for begin, end in pairwise(edges) for index in clock.admit(times[begin:end])]
    assert found == expected
    if len(naive.times) >= 101:
        window = sorted(naive.times[-1_001:])
        assert clock.now() == window[(len(window) - 1) // 2]
    else:
        assert clock.now() is None


# A stream that runs forward with noise, jumps, and frames around the retention's edge.
steps = st.lists(
    st.tuples(st.sampled_from([-200, -101, -100, -99, -50, -1, 0, 1, 2, 3, 50, 150]), st.integers(1, 60)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(steps, st.lists(st.integers(0, 2_400), max_size=8), st.sampled_from([0, 1, 40, 100]))
@example([(0, 60), (1, 60), (-101, 60), (3, 60)], [], 100)
def test_any_chunking_judges_as_the_median_of_each_frame_would(
    steps: list[tuple[int, int]], cuts: list[int], retention: int
) -> None:
    times = []
    now = NOW
    for step, frames in steps:
        now += max(0, step)
        times += [now + min(0, step)] * frames
    assert_as_the_naive_clock(times, cuts, retention)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chunk", [1, 7, 250, 5_000])
def test_a_long_noisy_stream_is_judged_as_the_median_of_each_frame_would(seed: int, chunk: int) -> None:
    random = Random(seed)
    times = []
    now = NOW
    for _ in range(2_500):
        now += random.choice([0, 0, 1, 1, 5, 20])
        times.append(now - random.choice([0, 0, 0, random.randrange(400), 100, 101, -random.randrange(10_000)]))
    assert_as_the_naive_clock(times, range(chunk, len(times), chunk), 100)


def test_the_clock_judges_from_the_101st_time_on() -> None:
    clock = StreamClock(DAY)
    assert clock.admit([NOW] * (JUDGES_FROM - 1) + [0]) == []
    assert clock.now() == NOW
    assert clock.admit([0, NOW - DAY - 1, NOW - DAY, NOW]) == [0, 1]


def test_late_times_do_not_move_the_clock() -> None:
    clock = StreamClock(DAY)
    clock.admit([NOW] * 200)
    assert clock.admit([0] * 5_000) == list(range(5_000))
    assert clock.now() == NOW


def test_one_frame_of_the_year_2300_makes_nothing_late() -> None:
    for first in (0, 50, 101, 500):
        times = [NOW + second for second in range(3_000)]
        times.insert(first, YEAR_2300)
        assert StreamClock(DAY).admit(times) == []


def test_the_window_forgets_what_is_older_than_1001_times() -> None:
    clock = StreamClock(DAY)
    clock.admit([NOW] * WINDOW)
    clock.admit([NOW + 10 * DAY] * (WINDOW // 2))
    assert clock.now() == NOW
    clock.admit([NOW + 10 * DAY])
    assert clock.now() == NOW + 10 * DAY
    assert clock.admit([NOW]) == [0]


def test_with_a_retention_of_0_nothing_is_late_but_the_clock_goes() -> None:
    clock = StreamClock(0)
    assert clock.admit([NOW] * 500) == []
    assert clock.admit([0, 1, YEAR_2300]) == []
    assert clock.now() == NOW


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(NOW, NOW + 3_600), max_size=1_200))
def test_a_clock_comes_back_from_its_metadata(times: list[int]) -> None:
    clock = StreamClock(DAY)
    clock.admit(times)
    text = clock.to_metadata()
    assert len(text.encode()) <= METADATA_BYTES_MAX
    back = StreamClock.from_metadata(DAY, text)
    assert back.now() == clock.now()
    assert list(back._times) == times[-WINDOW:]
    assert back.admit([0, NOW]) == clock.admit([0, NOW])


@pytest.mark.parametrize("seed", range(5))
def test_metadata_stays_within_what_a_broker_takes_however_wild_the_times(seed: int) -> None:
    random = Random(seed)
    times = [random.randrange(253_402_300_799) for _ in range(1_500)]
    clock = StreamClock(0)
    clock.admit(times)
    text = clock.to_metadata()
    assert len(text.encode()) <= METADATA_BYTES_MAX < 4_096
    back = StreamClock.from_metadata(0, text)
    assert back.now() is not None, "it still judges"
    kept = list(back._times)
    assert kept == times[-len(kept) :], "the newer part is kept"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "another program's",
        "clock1:",
        "clock1:ü",
        "clock1:~~~",
        "clock1:0000",
        "clock2:" + StreamClock(0, [NOW] * 200).to_metadata().removeprefix("clock1:"),
        StreamClock(0, [NOW] * 200).to_metadata()[:-3],
        " " + StreamClock(0, [NOW] * 200).to_metadata(),
    ],
)
def test_the_text_of_another_program_makes_a_new_clock(text: str) -> None:
    clock = StreamClock.from_metadata(DAY, text)
    assert clock.now() is None
    assert clock.admit([NOW] * 101) == []


@settings(max_examples=80, deadline=None)
@given(st.text() | st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)).map("clock1:".__add__))
def test_no_text_is_too_strange_for_a_clock(text: str) -> None:
    StreamClock.from_metadata(DAY, text).admit([NOW])
