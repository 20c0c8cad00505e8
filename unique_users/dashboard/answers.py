"""Answers to questions about counts, as JSON and CSV, and what the page is told. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson

from unique_users.dashboard.board import Board, Figures, Row
from unique_users.dashboard.health import State
from unique_users.event_time.buckets import MINUTE, Bucket, Calendar, bucket_timestamp, iso_time
from unique_users.queries.published import BucketRange

COLUMNS = ("start", "end", "unique_users", "at_end", "lower", "upper", "whole", "why")


class QuestionError(ValueError):
    """A question that cannot be answered as it is asked: the message says why."""


def time_of(name: str, text: str | None) -> int:
    """The minute that a parameter names, in epoch seconds. Raises QuestionError."""
    example = "expected a time like 2016-07-11T13:39:00Z"
    try:
        time = datetime.fromisoformat(text or "")
        ts = time.timestamp() if time.tzinfo else None
    except (ValueError, OverflowError, OSError):
        raise QuestionError(f"{name}: {example}, got {text!r}") from None
    if ts is None:
        raise QuestionError(f"{name}: {text!r} has no zone: write Z or an offset like +02:00 behind it")
    if ts < 0 or ts != bucket_timestamp(int(ts), MINUTE.seconds):
        raise QuestionError(f"{name}: {text!r} is no whole minute: {example}")
    return int(ts)


def range_of(interval: str, start: str | None, end: str | None, intervals: Sequence[str]) -> BucketRange:
    """The range that is asked for. Raises QuestionError."""
    if interval not in intervals:
        raise QuestionError(f"interval: expected one that is counted, {', '.join(intervals)}, got {interval!r}")
    asked = BucketRange(interval, time_of("from", start), time_of("to", end))
    if asked.start >= asked.end:
        raise QuestionError("expected `to` to be after `from`")
    return asked


def fields(row: Row, interval: str, calendar: Calendar) -> dict[str, Any]:
    """A row with the names and times of a report. An estimate has its bounds, a bucket that is not whole its reasons.

    `at_end` is null while the bucket is open, and where it is not known.
    """
    found: dict[str, Any] = {
        "start": calendar.text(Bucket(interval, row.start)),
        "end": calendar.text(Bucket(interval, row.end)),
        "unique_users": row.unique_users,
        "at_end": row.at_end,
    }
    if row.lower is not None:
        found |= {"lower": row.lower, "upper": row.upper}
    return found | ({"whole": False, "why": list(row.why)} if row.why else {"whole": True})


def as_json(asked: BucketRange, rows: Iterable[Row], calendar: Calendar) -> bytes:
    """The answer as JSON."""
    return orjson.dumps(
        {
            "interval": asked.interval,
            "timezone": calendar.zone_of(asked.interval) or "UTC",
            "from": iso_time(asked.start),
            "to": iso_time(asked.end),
            "buckets": [fields(row, asked.interval, calendar) for row in rows],
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def as_csv(asked: BucketRange, rows: Iterable[Row], calendar: Calendar) -> bytes:
    """The answer as CSV (RFC 4180), with a header line; several reasons are separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    for row in rows:
        named = fields(row, asked.interval, calendar)
        writer.writerow(named | {"whole": str(named["whole"]).lower(), "why": " ".join(named.get("why", ()))})
    return text.getvalue().encode()


def now_json(board: Board) -> bytes:
    """What the page shows large, and the state of the pipeline, as JSON."""
    shown = {
        name: {
            which: None if row is None else fields(row, name, board.calendar)
            for which, row in board.figures(name)._asdict().items()
        }
        for name in board.intervals
    }
    state = board.state
    times = {"since": state.since, "clock": state.clock, "newest_frame": state.newest_frame}
    told = {**state._asdict(), **{name: None if at is None else iso_time(at) for name, at in times.items()}}
    told = {"state": told.pop("kind").value, **told}
    return orjson.dumps({**told, "complete": board.complete, "intervals": shown}, option=orjson.OPT_APPEND_NEWLINE)


def hello(board: Board) -> bytes:
    """The first message to a page: what can be asked for."""
    return orjson.dumps({"type": "hello", "intervals": board.intervals, "timezone": board.calendar.timezone})


def view(asked: BucketRange, rows: Sequence[Row], figures: Figures, *, complete: bool) -> bytes:
    """The message with a whole range."""
    return orjson.dumps(
        {
            "type": "view",
            "interval": asked.interval,
            "from": asked.start,
            "to": asked.end,
            "complete": complete,
            "rows": [list(row) for row in rows],
            "figures": _figures(figures),
        }
    )


def changes(interval: str, changed: Iterable[Row | int], figures: Figures) -> bytes:
    """The message with the rows of an interval that changed; a start alone stands for one that is gone."""
    told = [[at] if isinstance(at, int) else list(at) for at in changed]
    return orjson.dumps({"type": "changes", "interval": interval, "rows": told, "figures": _figures(figures)})


def state_message(state: State, now: float) -> bytes:
    """The message with the state line and the figures beside it."""
    return orjson.dumps({"type": "state", "now": int(now), **state._asdict()})


def trouble(text: str) -> bytes:
    """The message that a view cannot be given."""
    return orjson.dumps({"type": "trouble", "text": text})


def _figures(figures: Figures) -> dict[str, list[Any] | None]:
    return {name: None if row is None else list(row) for name, row in figures._asdict().items()}
