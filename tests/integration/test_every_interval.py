"""All intervals by the real scripts through a real broker, in a zone whose clocks change, equal plain sets."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from running import Running

from unique_users.aggregation.counts import users_in
from unique_users.demo.sample import frames as sample_frames
from unique_users.event_time.buckets import INTERVALS

Counts = dict[tuple[str, str], int]  # by interval and start as text

ZONE = ZoneInfo("Europe/Berlin")
LONG_DAY = datetime(2016, 10, 30, tzinfo=ZONE)
# Two days on each side of the clock change, which end a week and a month; and two hours around the end of the year.
FRAMES = [
    *sample_frames(5_000, 2_000, 4 * 86_400, seed=7, start=int(datetime(2016, 10, 28, 12, tzinfo=UTC).timestamp())),
    *sample_frames(500, 2_000, 7_200, seed=8, start=int(datetime(2016, 12, 31, 22, tzinfo=UTC).timestamp())),
]
HALF = len(FRAMES) // 2
SETTINGS = ["bucketer.allowed_lateness_seconds=0", "counter.retention_seconds=0", f"counter.timezone={ZONE.key}"]
ALL = f"counter.intervals=[{', '.join(INTERVALS)}]"


def starts(ts: int) -> dict[str, datetime]:
    """The starts of the buckets that hold a time, by nothing but the calendar of Python."""
    utc = datetime.fromtimestamp(ts, UTC).replace(second=0)
    day = datetime.fromtimestamp(ts, ZONE).replace(hour=0, minute=0, second=0, fold=0)
    return {
        "minute": utc,
        "5 minutes": utc.replace(minute=utc.minute // 5 * 5),
        "hour": utc.replace(minute=0),
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": day.replace(day=1),
        "year": day.replace(month=1, day=1),
    }


def plain(frames: Iterable[bytes], intervals: Iterable[str] = INTERVALS) -> Counts:
    users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for frame in map(json.loads, frames):
        found = starts(frame["ts"])
        for interval in intervals:
            users[interval, found[interval].isoformat().replace("+00:00", "Z")].add(frame["uid"])
    return {bucket: len(uids) for bucket, uids in users.items()}


def lines(frames: Iterable[bytes]) -> bytes:
    return b"".join(frame + b"\n" for frame in frames)


def counted(running: Running, drop: Iterable[str] = ()) -> tuple[Counts, int]:
    """Re-key and count what is in `feed`: what the report says, and how many messages were read for it."""
    running.run("bucketer", "--until-caught-up")
    flags = ["--until-caught-up", "--format", "json", *(part for name in drop for part in ("--drop", name))]
    *buckets, summary = map(json.loads, running.run("counter", *flags).stdout.splitlines())
    return {(line["interval"], line["start"]): line["unique_users"] for line in buckets}, summary["new"]


def published(running: Running) -> Counts:
    """The topic `counts`."""
    fixed = {"minute", "5 minutes", "hour"}
    return {
        (
            b.interval,
            datetime.fromtimestamp(b.start, UTC if b.interval in fixed else ZONE).isoformat().replace("+00:00", "Z"),
        ): users_in(count.total)
        for b, count in running.published().items()
    }


def test_every_interval_is_exact_through_a_clock_change(running: Running) -> None:
    running.settings = [*SETTINGS, ALL]
    running.run("producer", "-", stdin=lines(FRAMES))
    expected = plain(FRAMES)
    hours = {start for interval, start in expected if interval == "hour" and starts(at(start))["day"] == LONG_DAY}
    assert len(hours) == 25
    assert counted(running) == (expected, len(FRAMES))
    assert published(running) == expected
    compared = running.run("recount", "-", "--against", "counts", stdin=lines(FRAMES))
    assert "exact" in compared.stderr
    differs = running.run("recount", "-", "--against", "counts", stdin=lines(FRAMES[:-1]), code=1)
    assert {line.split("  ")[1] for line in differs.stdout.splitlines()} >= {"minute"}


@pytest.mark.slow
def test_intervals_added_later_are_filled_from_the_saved_minutes_without_reading_again(running: Running) -> None:
    """minutes, half of the frames | all intervals, the other half | an hour and a day alone | all again"""
    running.settings = SETTINGS
    running.run("producer", "-", stdin=lines(FRAMES[:HALF]))
    assert counted(running) == (plain(FRAMES[:HALF], ["minute"]), HALF)
    running.settings = [*SETTINGS, ALL]
    assert counted(running) == (plain(FRAMES[:HALF]), 0)
    running.run("producer", "-", stdin=lines(FRAMES[HALF:]))
    assert counted(running) == (plain(FRAMES), len(FRAMES) - HALF)
    running.settings = [*SETTINGS, "counter.intervals=[hour, day]"]
    kept = ["minute", "hour", "day"]
    assert counted(running, set(INTERVALS).difference(kept)) == (plain(FRAMES, ["hour", "day"]), 0)
    assert published(running) == plain(FRAMES, kept)
    running.settings = [*SETTINGS, ALL]
    assert counted(running) == (plain(FRAMES), 0)
    assert published(running) == plain(FRAMES)


def at(start: str) -> int:
    return int(datetime.fromisoformat(start).timestamp())
