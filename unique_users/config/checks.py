"""Checks of a configuration beyond the types of its keys."""

import re
from zoneinfo import ZoneInfo

from unique_users.config.kafka_section import check_kafka_section
from unique_users.config.places import Places
from unique_users.config.schema import Config, start_of
from unique_users.config.values import NAME, NAME_LENGTH_MAX, PATTERNS
from unique_users.errors import UsageError
from unique_users.event_time.buckets import MINUTE
from unique_users.messages.fields import RECORD_KEY, RECORD_TIME


def check(config: Config, places: Places) -> None:
    """Check the whole configuration. Raises UsageError."""
    check_kafka_section(config, places)
    _check_retention(config, places)
    _check_fields(config, places)
    _check_topics(config, places)
    _check_intervals(config, places)
    _check_start(config, places)


def _check_retention(config: Config, places: Places) -> None:
    """The counter must keep every minute for which the bucketer still accepts frames."""
    lets_in, keeps = config.bucketer.allowed_lateness_seconds, config.counter.retention_seconds
    if keeps and (not lets_in or keeps < lets_in):
        said = f"expected 0 (never) or at least bucketer.allowed_lateness_seconds ({lets_in}), got {keeps}"
        raise places.wrong("counter.retention_seconds", said)


FIELDS_MAX = 10
LEVELS_MAX = 100  # of a path
_NO_KEY = re.compile(r'["\\]')  # what the parser of frames does not take in the name of a key


def _check_names(key: str, names: list[str], places: Places) -> None:
    if not 0 < len(names) <= FIELDS_MAX or not all(
        re.search(NAME, name) and len(name) <= NAME_LENGTH_MAX for name in names
    ):
        shown = f"{names if len(names) != 1 else names[0]!r:.60}"
        said = f"expected {PATTERNS[NAME]}, or a list of up to {FIELDS_MAX} of them, got {shown}"
        raise places.wrong(key, said)
    for name in names:
        if _NO_KEY.search(name):
            said = f"expected a field without quotes and backslashes in its name, got {name!r:.60}"
            raise places.wrong(key, said)
        if name.count(".") >= LEVELS_MAX:
            raise places.wrong(key, f"expected a path of up to {LEVELS_MAX} levels, got {name!r:.60}")


def _check_fields(config: Config, places: Places) -> None:
    frame = config.frame
    uid, ts = ([names] if isinstance(names, str) else names for names in (frame.uid, frame.ts))
    for key, names in (("frame.uid", uid), ("frame.ts", ts)):
        _check_names(key, names, places)
    if RECORD_TIME in uid or RECORD_KEY in ts:
        raise places.wrong("frame", f"{RECORD_KEY} may stand for frame.uid alone, and {RECORD_TIME} for frame.ts")
    for name in uid:
        if name in ts or uid.count(name) > 1:
            message = f"{places.of('frame')}: frame.uid, frame.ts: expected different fields, got {name!r} twice"
            raise UsageError(message)
    for name in ts:
        if ts.count(name) > 1:
            raise places.wrong("frame.ts", f"expected different fields, got {name!r} twice")
    if frame.timezone is not None:
        _check_zone("frame.timezone", frame.timezone, places)


def _check_topics(config: Config, places: Places) -> None:
    topics = config.topics
    names = [topic.name for topic in (topics.feed, topics.bucketed, topics.counts, topics.rejected, *topics.optional)]
    for name in names:
        if names.count(name) > 1:
            raise places.wrong("topics", f"expected different names, got {name!r} twice")


def _check_start(config: Config, places: Places) -> None:
    try:
        start_of(config.bucketer.start)
    except ValueError:
        said = "expected earliest, latest, or a time with a zone like 2024-01-01T00:00:00Z"
        raise places.wrong("bucketer.start", f"{said}, got {config.bucketer.start!r:.60}") from None


def _check_intervals(config: Config, places: Places) -> None:
    intervals, timezone = config.counter.intervals, config.counter.timezone
    for name in intervals:
        if intervals.count(name) > 1:
            raise places.wrong("counter.intervals", f"expected each interval once, got {name!r} twice")
    for name in config.counter.estimates:
        if name == MINUTE.name or name not in intervals or config.counter.estimates.count(name) > 1:
            said = f"expected some of counter.intervals, each once and never the minute, got {name!r}"
            raise places.wrong("counter.estimates", said)
    _check_zone("counter.timezone", timezone, places)
    if reason := wrong_layout(config, config.topics.bucketed.partitions):
        raise UsageError(f"{places.of('counter.intervals')}: {reason}")


def _check_zone(key: str, timezone: str, places: Places) -> None:
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        raise places.wrong(key, f"expected a zone like UTC or Europe/Berlin, got {timezone!r}") from None


def wrong_layout(config: Config, partitions: int) -> str | None:
    """Why the configured intervals would be miscounted over this many partitions of bucketed; None if not."""
    wide = [name for name in config.counter.intervals if name != MINUTE.name]
    if partitions == 1 or config.bucketer.partition_by == "uid" or not wide:
        return None
    return (
        f"counter.intervals: with bucketer.partition_by: bucket and {partitions} partitions of"
        f" {config.topics.bucketed.name!r}, the minutes of one {wide[0]} stand in several partitions, and a user would"
        " be counted in each of them: set bucketer.partition_by: uid with a new topic, or use one partition"
    )
