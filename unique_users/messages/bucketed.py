"""The records of the topic `bucketed`, written and read: users, keyed by their minute. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
import orjson

from unique_users.event_time.buckets import bucket_timestamp
from unique_users.messages.event_times import TS_MAX
from unique_users.messages.partitioning import partition_of

KEY_BYTES_MAX = 12  # digits of the last bucket of the year 9999


Records = tuple[list[bytes], list[bytes], list[int] | None]  # keys, values, partitions


class _PlainRecord(msgspec.Struct, gc=False):
    uid: str
    ts: int


_encode_lines = msgspec.json.Encoder().encode_lines


def plain_records(uids: Sequence[str], times: Sequence[int], partitions: int | None) -> Records:
    """One record for each user and time. If `partitions` is given, each user is assigned one of that many."""
    keys = {ts: b"%d" % bucket_timestamp(ts) for ts in set(times)}
    # One call for the whole batch: JSON strings never contain a line break.
    values = _encode_lines(list(map(_PlainRecord, uids, times))).split(b"\n")
    return [keys[ts] for ts in times], values[:-1], _partitions(uids, partitions)


def combined_records(uids: Sequence[str], times: Sequence[int], partitions: int | None, bytes_max: int) -> Records:
    """One record for all users of a minute, or for those in each of `partitions`; `bytes_max` at most."""
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
    """The users of each partition; a single share if the keys choose the partition."""
    if partitions is None or partitions == 1:
        return [(0, uids)]
    shares: defaultdict[int, list[str]] = defaultdict(list)
    for uid in uids:
        shares[partition_of(uid, partitions)].append(uid)
    return shares.items()


# Half of a topic's default limit: a record needs no setting of its own, and a batch holds more than one.
COMBINED_BYTES_MAX = 512 * 1024


def _combined(uids: list[str], bytes_max: int) -> list[bytes]:
    """The values that hold these users: one, or several if one would be too large."""
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
    """Read records of `bucketed`, plain and combined in any mixture.

    Records that other programs wrote to the topic are counted as unreadable, never guessed at.
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
    """The bucket that a key names, or None for a key that this program does not write."""
    if key is None or not key.isdigit() or len(key) > KEY_BYTES_MAX:
        return None
    bucket = int(key)
    return bucket if b"%d" % bucket == key and bucket == bucket_timestamp(bucket) and bucket <= TS_MAX else None


def _entries(values: Sequence[bytes | None]) -> Sequence[Any] | None:
    """Parse `values` as plain records; None if one of them is not."""
    # One call for the whole batch costs a third of one call per record. If each value begins with its only brace
    # and there are as many objects as values, no value can have been read as part of another.
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
    """The users in one record, or None if it cannot be read."""
    try:
        record = _decode_record(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record.uids if record.uid is None else [record.uid]
