"""Re-keying: frames become records of `bucketed`, keyed by their bucket; and back. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import orjson

from unique_users.buckets import bucket_timestamp
from unique_users.clock import StreamClock
from unique_users.frames import TS_MAX, FrameParser, Parsed, Reason
from unique_users.layout import partition_of

KEY_BYTES_MAX = 12  # digits of the last bucket of the year 9999


class Rejected(NamedTuple):
    """A record that is not counted, and why."""

    place: int  # its index in the batch
    reason: Reason
    detail: str


@dataclass
class FrameCounts:
    """`read` frames = `accepted` + the sum of `rejected`, which counts by reason."""

    read: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "FrameCounts") -> "FrameCounts":
        return FrameCounts(self.read + other.read, self.accepted + other.accepted, self.rejected + other.rejected)

    def __str__(self) -> str:
        return self.sum_text("accepted")

    def sum_text(self, accepted: str) -> str:
        """In words, with a word for those that are accepted."""
        text = f"{self.read:,} frames read = {self.accepted:,} {accepted} + {self.rejected.total():,} rejected"
        if self.rejected:
            text += f" ({', '.join(f'{reason} {n:,}' for reason, n in sorted(self.rejected.items()))})"
        return text


class Rekeyed(NamedTuple):
    """What became of one batch: its records of `bucketed` as columns of equal length, and the rejected frames."""

    keys: list[bytes]
    values: list[bytes]
    partitions: list[int] | None  # None: the keys choose them
    rejected: list[Rejected]
    accepted: int  # frames; as many as records, unless these are combined

    def counts(self) -> FrameCounts:
        """The batch in numbers."""
        reasons = Counter(rejected.reason.value for rejected in self.rejected)
        return FrameCounts(self.accepted + len(self.rejected), self.accepted, reasons)


def all_rejected(count: int, reason: Reason, detail: str) -> Rekeyed:
    """What became of a batch of which no record is a frame, all for the same reason."""
    return Rekeyed([], [], None, [Rejected(place, reason, detail) for place in range(count)], 0)


class Rekeyer:
    """Turns batches of frames into records of `bucketed`.

    One for each accepted frame; or, with `combine`, one for each minute of a batch, with all its users. With
    `partitions`, each user has a partition among so many, and one of the combined records has users of one of them.
    """

    def __init__(
        self, parser: FrameParser, future_seconds_max: int, *, combine: bool = False, partitions: int | None = None
    ) -> None:
        self._parser = parser
        self._future_ms_max = future_seconds_max * 1000
        self._combine = combine
        self._partitions = partitions
        self.combined_bytes_max = COMBINED_BYTES_MAX

    def rekey(self, frames: Sequence[bytes | None], timestamps_ms: Sequence[int], clock: StreamClock) -> Rekeyed:
        """Judge and re-key `frames`, whose records carry the Kafka times `timestamps_ms`, and move the clock."""
        parsed = self._parser.parse_all(frames)
        rejected = [Rejected(place, error.reason, error.detail) for place, error in parsed.refused]
        uids, times, places = parsed.uids, parsed.times, parsed.places
        if times and max(times) * 1000 > min(timestamps_ms) + self._future_ms_max:
            future = self._future(parsed, timestamps_ms)
            rejected += future.values()
            uids, times, places = _without(future, uids, times, places)
        if late := set(clock.admit(times)):
            detail = f"behind the stream by more than the retention; the stream is at {clock.now()}"
            rejected.extend(Rejected(places[i], Reason.LATE, f"{times[i]} is {detail}") for i in sorted(late))
            uids, times, places = _without(late, uids, times, places)
        return Rekeyed(*self._records(uids, times), rejected, len(uids))

    def _records(self, uids: Sequence[str], times: Sequence[int]) -> "Records":
        if self._combine:
            return _combined_records(uids, times, self._partitions, self.combined_bytes_max)
        return _plain_records(uids, times, self._partitions)

    def _future(self, parsed: Parsed, timestamps_ms: Sequence[int]) -> dict[int, Rejected]:
        """Those that lie too far ahead of their records, by their index in `parsed`."""
        future = {}
        for index, (ts, place) in enumerate(zip(parsed.times, parsed.places, strict=True)):
            # A record without a time of its own (-1) tells nothing about the future.
            if ts * 1000 > timestamps_ms[place] + self._future_ms_max and timestamps_ms[place] >= 0:
                detail = f"{ts - timestamps_ms[place] // 1000} s ahead of its record"
                future[index] = Rejected(place, Reason.FUTURE, detail)
        return future


def _without(
    indices: Container[int], uids: Sequence[str], times: Sequence[int], places: Sequence[int]
) -> tuple[list[str], list[int], list[int]]:
    """The columns without their rows at `indices`."""
    kept = [index for index in range(len(uids)) if index not in indices]
    return [uids[i] for i in kept], [times[i] for i in kept], [places[i] for i in kept]


Records = tuple[list[bytes], list[bytes], list[int] | None]  # keys, values, partitions


class _PlainRecord(msgspec.Struct, gc=False):
    uid: str
    ts: int


_encode_lines = msgspec.json.Encoder().encode_lines


def _plain_records(uids: Sequence[str], times: Sequence[int], partitions: int | None) -> Records:
    keys = {ts: b"%d" % bucket_timestamp(ts) for ts in set(times)}
    # One call for the whole batch: no text in JSON has a line's end in it.
    values = _encode_lines(list(map(_PlainRecord, uids, times))).split(b"\n")
    return [keys[ts] for ts in times], values[:-1], _partitions(uids, partitions)


def _combined_records(uids: Sequence[str], times: Sequence[int], partitions: int | None, bytes_max: int) -> Records:
    by_bucket: dict[int, dict[str, None]] = {}  # a dict, to keep their order
    users_at = {ts: by_bucket.setdefault(bucket_timestamp(ts), {}) for ts in dict.fromkeys(times)}
    for uid, ts in zip(uids, times, strict=True):
        users_at[ts][uid] = None
    records = [
        (b"%d" % bucket, value, partition)
        for bucket, users in by_bucket.items()
        for partition, share in _shares(list(users), partitions)
        for value in _combined(share, bytes_max)
    ]
    where = None if partitions is None else [partition for _, _, partition in records]
    return [key for key, _, _ in records], [value for _, value, _ in records], where


def _partitions(uids: Sequence[str], partitions: int | None) -> list[int] | None:
    if partitions is None:
        return None
    return [partition_of(uid, partitions) for uid in uids] if partitions > 1 else [0] * len(uids)


def _shares(uids: list[str], partitions: int | None) -> Iterable[tuple[int, list[str]]]:
    """The users of each partition; all of them in one share where the keys choose it."""
    if partitions is None or partitions == 1:
        return [(0, uids)]
    shares: defaultdict[int, list[str]] = defaultdict(list)
    for uid in uids:
        shares[partition_of(uid, partitions)].append(uid)
    return shares.items()


# Half of what a topic takes by default, so that a record needs no setting of its own, and a batch holds one and more.
COMBINED_BYTES_MAX = 512 * 1024


def _combined(uids: list[str], bytes_max: int) -> list[bytes]:
    """The values that hold these users: one, or more where it would be too large."""
    value = orjson.dumps({"uids": uids})
    if len(value) <= bytes_max or len(uids) == 1:
        return [value]
    middle = len(uids) // 2
    return _combined(uids[:middle], bytes_max) + _combined(uids[middle:], bytes_max)


class _Entry(msgspec.Struct, gc=False):
    uid: str


class _PlainOrCombined(msgspec.Struct, gc=False):
    uid: str | None = None
    uids: list[str] | None = None


_decode_entries = msgspec.json.Decoder(list[_Entry]).decode
_decode_record = msgspec.json.Decoder(_PlainOrCombined).decode


class Users(NamedTuple):
    """The users in a batch of `bucketed`, by bucket, and how many of its records could not be read."""

    by_bucket: dict[int, list[str]]
    unreadable: int


def users_by_bucket(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Users:
    """Read records of `bucketed`, plain and combined ones in any mixture.

    Records of other programs in the topic are counted, never guessed at.
    """
    entries = _entries(values)
    if entries is None:
        return _one_by_one(keys, values)
    by_key: defaultdict[bytes | None, list[str]] = defaultdict(list)
    for key, entry in zip(keys, entries, strict=True):
        by_key[key].append(entry.uid)
    users: dict[int, list[str]] = {}
    unreadable = 0
    for key, uids in by_key.items():
        bucket = minute_of(key)
        if bucket is None:
            unreadable += len(uids)
        else:
            users[bucket] = uids
    return Users(users, unreadable)


def _one_by_one(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> Users:
    buckets = {key: minute_of(key) for key in set(keys)}
    users: defaultdict[int, list[str]] = defaultdict(list)
    unreadable = 0
    for key, value in zip(keys, values, strict=True):
        bucket, uids = buckets[key], uids_of(value)
        if bucket is None or uids is None:
            unreadable += 1
        elif uids:
            users[bucket] += uids
    return Users(dict(users), unreadable)


def minute_of(key: bytes | None) -> int | None:
    """The bucket that a key names, None for a key that this program does not write."""
    if key is None or not key.isdigit() or len(key) > KEY_BYTES_MAX:
        return None
    bucket = int(key)
    return bucket if b"%d" % bucket == key and bucket == bucket_timestamp(bucket) and bucket <= TS_MAX else None


def _entries(values: Sequence[bytes | None]) -> Sequence[Any] | None:
    """The plain records that all of `values` are, None when one of them is not."""
    # One call for the whole batch costs a third of one call for each record. Where each value begins with its only
    # brace and the batch gives as many objects as values, no value can have been read as a part of another.
    try:
        if values and values[0].startswith(b'{"uids":'):  # type: ignore[union-attr]
            return None
        joined = b",".join(values)  # type: ignore[arg-type]
        if joined.count(b"{") == len(values) and set(map(_FIRST_BYTE, values)) == {_BRACE}:  # type: ignore[arg-type]
            entries: list[Any] = _decode_entries(b"[" + joined + b"]")
            return entries if len(entries) == len(values) else None
    except (AttributeError, IndexError, TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return None


_FIRST_BYTE: Callable[[bytes], int] = itemgetter(0)
_BRACE = ord("{")


def uids_of(value: bytes | None) -> list[str] | None:
    """The users in one record, None when it cannot be read."""
    try:
        record = _decode_record(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record.uids if record.uid is None else [record.uid]
