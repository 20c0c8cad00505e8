"""Turns records of `counts` into rows of a table. Pure.

A row holds what every reader of `counts` says about a bucket, and the records that say so. It never goes back while
records are read again. It goes down, or leaves the table, only where `counts` takes a count back. A count that leaves
the topic because of its age stays in the table. So does one that a new topic `bucketed` made obsolete.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from unique_users.aggregation.completeness import Why
from unique_users.aggregation.counts import users_in
from unique_users.event_time.buckets import INTERVALS, Bucket
from unique_users.exports.progress import Progress
from unique_users.messages.checkpoints import Checkpoint
from unique_users.messages.generations import Generations
from unique_users.messages.merged_counts import TIMESTAMP_MAX, PublishedBucket, ReadCounts, parsed_key

Record = tuple[bytes | None, bytes | None]  # key and value


class Source(msgspec.Struct, frozen=True):
    """What a row is made from: values of records, and the readings that found the bucket first and last.

    While the last one is incomplete, `former` has the records of the partitions that it has not found yet: these may
    have left the topic for their age.
    """

    first: int
    reading: int
    records: tuple[msgspec.Raw, ...] = ()
    former: tuple[msgspec.Raw, ...] = ()


class Origin(msgspec.Struct, frozen=True):
    """Where a record of a row is from."""

    partition: int
    generation: str = ""

    @classmethod
    def of(cls, value: bytes) -> tuple[int, str]:
        found = msgspec.json.decode(value, type=cls)
        return found.partition, found.generation


class Row(NamedTuple):
    """A row of the table."""

    counted: PublishedBucket
    source: Source


class Changes(NamedTuple):
    """What is to be written, and what is to be deleted."""

    written: dict[Bucket, Row]
    deleted: list[Bucket]

    def lowered(self, stored: Mapping[Bucket, Row]) -> int:
        """How many counts go down or leave the table."""
        pairs = [(row, stored[bucket]) for bucket, row in self.written.items() if bucket in stored]
        down = sum(users_in(row.counted.total) < users_in(before.counted.total) for row, before in pairs)
        return len(self.deleted) + down


def buckets_of(records: Iterable[Record]) -> set[Bucket]:
    """The buckets that records are about."""
    found = {parsed_key(key)[0] for key, _ in records}
    return {bucket for bucket in found if bucket.interval in INTERVALS and bucket.start <= TIMESTAMP_MAX}


def _has_nul(record: Record) -> bool:
    """Whether the text of a record, which is then not a count, cannot be stored in a database."""
    key, value = record
    return b"\0" in (key or b"") or b"\\u0000" in (value or b"")


class Rows:
    """Makes rows from records. Between two calls it holds little: the rows stay in the table.

    After an error between a call and the commit of what the call returned, discard it and make another one.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._generations = Generations()
        self._known = ReadCounts(self._generations)
        for partition, name in progress.generations:
            self._generations.note(partition, name)
        for key, value in progress.notes:
            self._known.add(key.encode(), value.encode())

    def take(self, records: Sequence[Record], stored: Mapping[Bucket, Row]) -> Changes:
        """Take records in their order. `stored` has the rows of their buckets."""
        context = self._known.context()
        self._load(stored, complete=self.progress.until is None)
        for key, value in records:
            if value is None:
                self._take_back(key)
            elif not _has_nul((key, value)):
                self._known.add(key, value)
        asked = buckets_of(records)
        merged = self._known.merged(asked)
        changes = Changes({}, [])
        for bucket in sorted(asked):
            self._settle(bucket, stored.get(bucket), merged.get(bucket), changes)
        self.progress = msgspec.structs.replace(
            self.progress,
            stale=self.progress.stale or self._known.context() != context,
            generations=tuple(self._generations.found()),
            notes=tuple((key.decode(errors="replace"), value.decode()) for key, value in self._known.notes()),
        )
        return changes

    def look_again(self, stored: Mapping[Bucket, Row]) -> Changes:
        """Look at rows again, of which all but their own records may have changed, or whose reading is complete."""
        self._load(stored, complete=True)
        merged = self._known.merged(stored)
        changes = Changes({}, [])
        for bucket, row in stored.items():
            source = msgspec.structs.replace(row.source, records=self._values(bucket), former=())
            self._known.forget(bucket)
            counted = self._seen_again(Row(row.counted, source), merged.get(bucket))
            if counted is None:
                changes.deleted.append(bucket)
            elif counted != row.counted or row.source.former:
                changes.written[bucket] = Row(counted, source)
        return changes

    def reached(self, offsets: Mapping[int, int], histories: Mapping[int, tuple[Checkpoint, ...]]) -> None:
        """Note where the topic is to be read on, and what was read before."""
        progress = self.progress
        self.progress = msgspec.structs.replace(
            progress, offsets={**progress.offsets, **offsets}, histories={**progress.histories, **histories}
        )

    def all_looked_at(self) -> None:
        """Note that every row was checked again."""
        self.progress = msgspec.structs.replace(self.progress, until=None, stale=False)

    def _load(self, rows: Mapping[Bucket, Row], *, complete: bool) -> None:
        """Take the records of rows; of those of a former reading, only what has left the topic for its age."""
        for bucket, (_, source) in rows.items():
            seen = source.reading == self.progress.reading
            former = source.former if seen else source.records
            left = [value for value in former if complete and self._known.is_removed(bucket, Origin.of(value))]
            for value in (*left, *(source.records if seen else ())):
                self._known.add(None, bytes(value))

    def _take_back(self, key: bytes | None) -> None:
        """Take a tombstone. It does not take back what has left the topic for its age."""
        bucket, partition = parsed_key(key)
        origins = [(value, Origin.of(value)) for value in self._known.records_of(bucket)]
        left = [value for value, of in origins if of[0] == partition and self._known.is_removed(bucket, of)]
        self._known.add(key, None)
        for value in left:
            self._known.add(None, value)

    def _values(self, bucket: Bucket) -> tuple[msgspec.Raw, ...]:
        return tuple(msgspec.Raw(value) for value in self._known.records_of(bucket))

    def _settle(self, bucket: Bucket, before: Row | None, merged: PublishedBucket | None, changes: Changes) -> None:
        """Decide what becomes of the row of a bucket whose records were read."""
        reading, incomplete = self.progress.reading, self.progress.until is not None
        values = self._values(bucket)
        self._known.forget(bucket)
        if before is None:
            if merged is not None:
                changes.written[bucket] = Row(merged, Source(reading, reading, values))
            return
        if not values and not incomplete:
            changes.deleted.append(bucket)
            return
        # While the topic is being read again, its records may be older than the row.
        stays = merged is None or (incomplete and before.source.first < reading)
        counted = before.counted if stays or merged is None else merged
        former: Sequence[msgspec.Raw] = ()
        if incomplete:
            found = {Origin.of(value)[0] for value in values}
            former = before.source.former if before.source.reading == reading else before.source.records
            former = [value for value in former if Origin.of(value)[0] not in found]
        changes.written[bucket] = Row(counted, Source(before.source.first, reading, values, tuple(former)))

    def _seen_again(self, row: Row, merged: PublishedBucket | None) -> PublishedBucket | None:
        """What a row is to say; None if it is to leave. Of a row that was not found it has what left for its age."""
        progress, source = self.progress, row.source
        complete = progress.until is not None  # for the first time
        if source.reading < progress.reading:
            gone = complete and source.reading >= progress.keeps_before and not source.records
            return None if gone else row.counted
        new = complete and source.first == progress.reading
        if not source.records:
            return None
        if merged is None:
            return None if new else row.counted
        if new or Why.COUNT_REMOVED not in merged.why or Why.COUNT_REMOVED in row.counted.why:
            return merged
        # The table has what has left the topic since, so nothing is missing in the row.
        return merged._replace(why=tuple(why for why in merged.why if why != Why.COUNT_REMOVED))
