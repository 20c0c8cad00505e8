"""The dead letters in the topic `rejected`: reading them without a consumer group, and showing them."""

import base64
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from unique_users.clients.protocols import Batch, Consumer
from unique_users.errors import BrokerAwayError
from unique_users.event_time.buckets import iso_time
from unique_users.messages.dead_letters import DeadLetter
from unique_users.reports.bucket_count import Format
from unique_users.reports.examples import Example

POLL_SECONDS = 0.5
SILENT_POLLS_MAX = 40  # in a row before the broker counts as away


class FoundLetter(NamedTuple):
    """A dead letter, and its place in the topic `rejected`."""

    partition: int
    offset: int
    timestamp_ms: int  # when it was rejected
    letter: DeadLetter

    @property
    def order(self) -> tuple[int, int, int]:
        """What the letters of all partitions are sorted by."""
        return self.timestamp_ms, self.partition, self.offset

    def line(self, form: Format) -> str:
        """As one line, safe to print on a terminal."""
        at = iso_time(max(0, self.timestamp_ms) // 1000)
        if form == "json":
            return json.dumps({"time": at, "partition": self.partition, "offset": self.offset, **_fields(self.letter)})
        letter = self.letter
        words = Example(letter.reason, letter.detail, _source(letter), letter.value).words()
        return f"{at}  {words}{'  (replayed before)' if letter.replayed else ''}"


def _source(letter: DeadLetter) -> str:
    element = "" if letter.element is None else f"[{letter.element}]"
    return f"{letter.topic}-{letter.partition}@{letter.offset}{element}" if letter.topic else "a line of a file"


def _fields(letter: DeadLetter) -> dict[str, object]:
    source = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "source": source if letter.topic else None,
        "element": letter.element,
        "timestamp_ms": letter.timestamp_ms,
        "key": _text(letter.key),
        "headers": [[name, _text(value)] for name, value in letter.record_headers],
        "value": _text(letter.value),
        "bytes_total": len(letter.value) if letter.bytes_total is None else letter.bytes_total,
        "replayed": letter.replayed,
    }


def _text(data: bytes | None) -> str | dict[str, str] | None:
    """Bytes for JSON: a string, or an object with their base64 if they are not UTF-8."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def read_letters(reader: Consumer, begin: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[list[FoundLetter]]:
    """The dead letters from `begin` to `ends`, as they arrive; those of one partition are in order.

    `reader` is new and reads all partitions. Records that are not dead letters are left out. Raises BrokerAwayError.
    """
    left = {partition for partition, end in ends.items() if begin[partition] < end}
    begun: set[int] = set()
    silent = 0
    while left:
        polled = reader.poll(POLL_SECONDS)
        begun -= polled.revoked
        for partition in polled.assigned & left:
            reader.seek(partition, begin[partition])
            begun.add(partition)
        found = [letter for batch in polled.batches for letter in _letters(batch, ends)]
        begin = {**begin, **{batch.partition: batch.next_offset for batch in polled.batches}}
        if found:
            yield found
        left -= {p for p in left & begun if begin[p] >= ends[p] or reader.position(p) >= ends[p]}
        silent = 0 if polled.batches else silent + 1
        if silent > SILENT_POLLS_MAX:
            raise BrokerAwayError("no answer from the broker while reading dead letters")


def _letters(batch: Batch, ends: Mapping[int, int]) -> Iterator[FoundLetter]:
    columns = zip(batch.offsets, batch.keys, batch.values, batch.timestamps_ms, strict=True)
    for place, (offset, key, value, timestamp_ms) in enumerate(columns):
        letter = DeadLetter.read(value, key, batch.headers(place))
        if letter is not None and offset < ends[batch.partition]:
            yield FoundLetter(batch.partition, offset, timestamp_ms, letter)


def last_letters(reader: Consumer, partitions: int, limit: int | None, reason: str | None) -> Iterator[FoundLetter]:
    """The last `limit` dead letters, the oldest first; None: all, as they arrive. Raises BrokerAwayError."""
    bounds = reader.watermark_offsets(range(partitions))
    ends = {partition: end for partition, (_, end) in bounds.items()}
    begin = {partition: first for partition, (first, _) in bounds.items()}
    if limit is not None and reason is None:
        begin = {partition: max(first, ends[partition] - limit) for partition, first in begin.items()}
    wanted = (
        found
        for several in read_letters(reader, begin, ends)
        for found in several
        if reason is None or found.letter.reason == reason
    )
    if limit is None:
        yield from wanted
        return
    kept: dict[int, deque[FoundLetter]] = {partition: deque(maxlen=limit) for partition in ends}
    for found in wanted:
        kept[found.partition].append(found)
    yield from sorted((found for each in kept.values() for found in each), key=lambda found: found.order)[-limit:]
