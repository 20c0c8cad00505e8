"""The stream of `demo --live`: a day of history, then frames of now, with a rhythm and late ones."""

import io
import json
from collections import Counter
from itertools import pairwise

from fakes import FakeClock

from unique_users.demo.live import HISTORY_SECONDS, LATE_SECONDS_MAX, QUIET_SHARE, LiveFrames, feed, share_of_rate
from unique_users.demo.stop import EarlyEnd
from unique_users.messages.frame_parser import FrameParser

PARSER = FrameParser()


def test_a_day_is_busy_in_the_afternoon_and_quiet_at_night() -> None:
    shares = [share_of_rate(hour * 3_600) for hour in range(24)]
    assert min(shares) == shares[4] == QUIET_SHARE
    assert max(shares) == shares[16] == 1
    assert share_of_rate(5 * 86_400 + 16 * 3_600) == 1, "every day"


def test_the_history_is_the_last_day_with_a_few_late_frames() -> None:
    clock = FakeClock()
    frames = list(LiveFrames(0.5, wall_clock=clock.wall).history())
    times = [json.loads(frame)["ts"] for frame in frames]
    now = int(clock.wall())
    assert now - HISTORY_SECONDS - LATE_SECONDS_MAX <= min(times)
    assert max(times) < now
    late = sum(later < earlier for earlier, later in pairwise(times))
    assert 0.01 < late / len(times) < 0.05
    hours = Counter(ts // 3_600 % 24 for ts in times)
    assert hours[16] > 2 * hours[4]


def test_frames_of_now_are_valid_frames_of_two_kilobytes() -> None:
    clock = FakeClock()
    waits = iter([False, False, True])
    live = LiveFrames(500, wall_clock=clock.wall)
    frames = [frame for lines in live.now(lambda _: next(waits)) for frame in lines]
    assert len(frames) > 10
    parsed = PARSER.parse_all(frames)
    assert not parsed.refused
    assert len(parsed.uids) == len(frames)
    assert all(uid.startswith("user-") for uid in parsed.uids)
    assert all(clock.wall() - LATE_SECONDS_MAX - 1 <= ts <= clock.wall() for ts in parsed.times)
    assert 1_500 < sum(map(len, frames)) / len(frames) < 3_000


def test_a_stop_ends_the_stream_and_a_producer_that_is_gone_ends_it_too() -> None:
    stop = EarlyEnd()
    stop.request(2, None)
    pipe = io.BytesIO()
    feed(pipe, LiveFrames(0.01), stop)
    assert pipe.closed
    feed(pipe, LiveFrames(0.01), EarlyEnd())
