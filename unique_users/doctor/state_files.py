"""The counters' state files and their disk, on this machine. Counters may keep running."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage

from unique_users.doctor.examination import CONNECTION, Examination
from unique_users.doctor.finding import Finding, from_error, ok, warning, wrong
from unique_users.errors import LockedError, StateError
from unique_users.state.schema import VERSION
from unique_users.state.snapshot import SavedState, path_of, saved_partitions

STATE, DISK = "state", "disk"
MIB = 1024 * 1024
FREE_BYTES_MIN = 64 * MIB
PLENTY_BYTES = 10 * 1024 * MIB  # with so much free, a share says nothing
SHARE_WRONG, SHARE_WARNING = 0.03, 0.1
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def look(examination: Examination) -> Iterator[Finding]:
    """Open each state, which checks its form and its checksum; `unique-users state check` reads it in full."""
    config = examination.config
    directory, topic = Path(config.state.directory), config.topics.bucketed.name
    try:
        partitions = saved_partitions(directory, topic)
        there = directory.is_dir()
    except OSError as error:
        yield wrong(STATE, f"{directory}: cannot be read: {error.strerror}", "give this user the right to read it")
        return
    if there:
        yield from _about_directory(directory)
    if not partitions:
        says = f"none of {topic!r} in {directory} on this machine"
        yield ok(STATE, f"{says}: a counter creates it, and one may run elsewhere")
    for partition in partitions:
        yield from _about_state(examination, directory, topic, partition)


def _about_directory(directory: Path) -> Iterator[Finding]:
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        says = f"{directory}: this user may not write there"
        yield wrong(STATE, says, "run as the counter's user, or make this user the folder's owner (chown)")


def _about_state(examination: Examination, directory: Path, topic: str, partition: int) -> Iterator[Finding]:
    path = path_of(directory, topic, partition)
    yield from _about_rights(path, directory)
    try:
        with SavedState(directory, topic, partition, older=True, alone=not _in_use(path)) as saved:
            older, next_offset, size = saved.version < VERSION, saved.next_offset or 0, path.stat().st_size
            partitions, topic_id, buckets = saved.origin.partitions, saved.origin.topic_id, len(saved.counts)
    except LockedError:
        yield ok(STATE, f"{path}: in use by its counter")
        return
    except StateError as error:
        yield from_error(STATE, error)
        return
    except OSError as error:
        yield wrong(STATE, f"{path}: cannot be read: {error.strerror}", "make the counter's user its owner (chown)")
        return
    if older:
        yield warning(STATE, f"{path}: in an older format", "start counter.py, which upgrades it; back it up first")
    found = list(_against_topic(examination, path, partition, next_offset, partitions, topic_id))
    yield from found
    if not found:
        yield ok(STATE, f"{path}: whole, {buckets:,} buckets, {size / MIB:,.1f} MB, up to offset {next_offset:,}")


def _in_use(path: Path) -> bool:
    """Whether a counter has it open, or did not close it. Otherwise it is read without the files beside it."""
    return path.with_name(f"{path.name}-wal").exists()


def _about_rights(path: Path, directory: Path) -> Iterator[Finding]:
    if os.name != "posix":
        return
    about = path.stat()
    if not os.access(path, os.R_OK | os.W_OK):
        says = f"{path}: this user may not read and write it"
        yield wrong(STATE, says, "run as the counter's user, or make this user the file's owner (chown)")
    elif about.st_uid != directory.stat().st_uid:
        says = f"{path}: has another owner than its folder: a counter that runs as the folder's owner cannot use it"
        yield warning(STATE, says, "give it to the counter's user (chown), with the files beside it")
    if stat.S_IMODE(about.st_mode) & _OTHERS:
        yield warning(STATE, f"{path}: others may read it, and it holds user ids", f"chmod 600 {path}")


def _against_topic(
    examination: Examination, path: Path, partition: int, next_offset: int, partitions: int, topic_id: str
) -> Iterator[Finding]:
    name = examination.config.topics.bucketed.name
    if CONNECTION not in examination.provided or name not in examination.details:
        return
    described = examination.admin.describe(name)
    if described is None:
        return
    if topic_id and described.id and topic_id != described.id:
        says = f"{path}: from an earlier topic named {name!r}, which has been deleted"
        yield warning(STATE, says, "the counter sets it aside when it starts, and counts the new topic from its start")
    elif partitions != described.partitions:
        says = f"{path}: from {name!r} with {partitions} partitions, which now has {described.partitions}"
        yield wrong(STATE, says, "see docs/limits.md: use another topic name, and replay")
    else:
        first = examination.admin.starts(name).get(partition, 0)
        end = examination.admin.high_watermark_offsets(name).get(partition, 0)
        if next_offset < first:
            says = f"{path}: its next record, offset {next_offset:,}, was deleted: {name!r} begins at {first:,}"
            yield wrong(STATE, says, "raise retention.ms of the topic; the counter marks these counts as not whole")
        elif next_offset > end:
            says = f"{path}: it has counted up to offset {next_offset:,}, but {name!r} ends at {end:,}"
            yield wrong(STATE, says, "the topic lost its end: the counter's report says what became of it")


def look_at_disk(examination: Examination) -> Iterator[Finding]:
    """Look at how much is free where the states are."""
    directory = Path(examination.config.state.directory).absolute()
    there = next(path for path in (directory, *directory.parents) if path.exists())
    usage = disk_usage(there)
    share = usage.free / usage.total if usage.total else 1.0
    says = f"{_size(usage.free)} of {_size(usage.total)} are free at {there}"
    scarce = usage.free < PLENTY_BYTES
    do = "free some space or move state.directory: a counter that cannot save ends, and its last save stays valid"
    if usage.free < FREE_BYTES_MIN or (scarce and share < SHARE_WRONG):
        yield wrong(DISK, f"almost full: {says}", do)
    elif scarce and share < SHARE_WARNING:
        yield warning(DISK, says, do)
    else:
        yield ok(DISK, says)


def _size(number: float) -> str:
    return f"{number / MIB:,.0f} MB" if number < 10 * 1024 * MIB else f"{number / MIB / 1024:,.0f} GB"
