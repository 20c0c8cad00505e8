"""Whether frames come, how many of them are rejected, and whether counts follow."""

from collections import Counter
from collections.abc import Iterator

from unique_users.config.schema import Config
from unique_users.doctor.examination import Examination
from unique_users.doctor.finding import Finding, ok, unknown, warning, wrong
from unique_users.doctor.topics import partitions_named
from unique_users.messages.offset_metadata import OffsetMetadata
from unique_users.runtime.waits import duration

FRAMES, TRANSACTIONS, REJECTED, COUNTS = "frames", "transactions", "rejected", "counts"
TRANSACTION_SECONDS = 10.0  # most end sooner
QUIET_SECONDS, SILENT_SECONDS = 60, 300  # without a frame: a warning, and wrong
WINDOW_SECONDS = 600  # what the share of rejected frames is taken over
SHARE_WARNING, SHARE_WRONG = 0.01, 0.1
FRAMES_MIN = 20  # of fewer, a share says nothing


def look_at_frames(examination: Examination) -> Iterator[Finding]:
    """Look at how old the newest frame is, by its time in Kafka."""
    topic = examination.config.topics.feed.name
    if not any(examination.admin.high_watermark_offsets(topic).values()):
        yield wrong(FRAMES, f"none has come yet: {topic!r} is empty", "start a producer, such as `python producer.py`")
        return
    newest = examination.admin.newest_ms(topic)
    if not newest:
        yield unknown(FRAMES, "the broker does not tell the newest frame's time, or everything was deleted")
        return
    age = examination.clock.wall() - max(newest.values()) / 1000
    if age < -QUIET_SECONDS:
        says = f"the newest record of {topic!r} is {-age:,.0f} s in the future"
        yield warning(FRAMES, says, "set the clock of the producer's machine, or of this one")
    elif age < QUIET_SECONDS:
        yield ok(FRAMES, f"the newest one came {max(0.0, age):.0f} s ago")
    else:
        judged = wrong if age >= SILENT_SECONDS else warning
        says = f"none for {duration(age)}: {topic!r} is silent"
        yield judged(FRAMES, says, "look at the producers and what feeds them; if the stream has ended, this is normal")


def look_at_transactions(examination: Examination) -> Iterator[Finding]:
    """Look whether records wait behind the start of a transaction that stays open: nobody can read them."""
    topic = examination.config.topics.feed.name
    held, before = _held_back(examination, topic)
    if held:
        examination.clock.pause(TRANSACTION_SECONDS)
        found, after = _held_back(examination, topic)
        held = {p: records for p, records in found.items() if p in held and after[p] == before[p]}
    if not held:
        yield ok(TRANSACTIONS, f"nothing in {topic!r} waits behind an open transaction")
        return
    records = sum(held.values())
    says = f"records of {topic!r} that wait behind an open transaction: {records:,}, {partitions_named(list(held))}"
    do = "let its producer commit or abort it; Kafka aborts it after the producer's transaction.timeout.ms"
    yield warning(TRANSACTIONS, says, do)


def _held_back(examination: Examination, topic: str) -> tuple[dict[int, int], dict[int, int]]:
    """How many records wait in each partition where some do, and where what waits begins.

    The ends are asked first: a record that comes between the two questions does not wait.
    """
    ends = examination.admin.high_watermark_offsets(topic)
    stable = examination.admin.stable_ends(topic)
    return {p: end - stable[p] for p, end in ends.items() if end > stable.get(p, end)}, stable


def look_at_rejected(examination: Examination) -> Iterator[Finding]:
    """Compare what came into `rejected` lately with what came into `feed`."""
    config = examination.config
    since = _window_begin_ms(examination)
    rejected, frames = (
        _count_since(examination, t, since) for t in (config.topics.rejected.name, config.topics.feed.name)
    )
    read, by_reason = _totals(examination)
    share = rejected / max(frames, rejected, 1)
    if frames + rejected < FRAMES_MIN and read >= FRAMES_MIN:
        share = sum(by_reason.values()) / read
        said = f"{share:.1%} of all frames so far"
    else:
        those = f"{rejected:,} of {max(frames, rejected):,}"
        said = f"{share:.1%} of the last {WINDOW_SECONDS // 60} minutes' frames ({those})"
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in by_reason.most_common(3))
    said += f"; by reason since the beginning: {reasons}" if reasons else ""
    if share < SHARE_WARNING:
        yield ok(REJECTED, said)
        return
    judged = wrong if share >= SHARE_WRONG else warning
    do = "`unique-users rejected` shows frames with their reasons; fix the producer, or fix a setting and --replay them"
    yield judged(REJECTED, said, do)


def _window_begin_ms(examination: Examination) -> int:
    """The window ends with the newest frame, or now where that is not known."""
    newest = examination.admin.newest_ms(examination.config.topics.feed.name)
    return max(newest.values(), default=int(examination.clock.wall() * 1000)) - WINDOW_SECONDS * 1000


def _count_since(examination: Examination, topic: str, since_ms: int) -> int:
    partitions = list(examination.details[topic].copies)
    reader = examination.new_reader(topic)
    try:
        offsets = reader.offsets_at(partitions, max(0, since_ms))
        ends = reader.watermark_offsets(partitions)
    finally:
        reader.close()
    return sum(max(0, end - offsets.get(partition, end)) for partition, (_, end) in ends.items())


def _totals(examination: Examination) -> tuple[int, Counter[str]]:
    """All frames that were read, and the rejected ones of them by reason, as the bucketers' commits say."""
    config = examination.config
    read, by_reason = 0, Counter[str]()
    for position in examination.admin.committed(config.bucketer.group, config.topics.feed.name).values():
        if (totals := OffsetMetadata.parsed(position.metadata).totals) is not None:
            read += totals.read
            by_reason.update(totals.rejected)
    return read, by_reason


def look_at_counts(examination: Examination) -> Iterator[Finding]:
    """Look whether the newest count is about as new as what there is to count."""
    config = examination.config
    topics, admin = config.topics, examination.admin
    if not any(admin.high_watermark_offsets(topics.bucketed.name).values()):
        yield ok(COUNTS, f"nothing to count yet: {topics.bucketed.name!r} is empty")
        return
    counted, to_count = admin.newest_ms(topics.counts.name), admin.newest_ms(topics.bucketed.name)
    if not counted:
        yield wrong(COUNTS, f"none is published in {topics.counts.name!r}", "look at the counter's log")
    elif not to_count:
        yield ok(COUNTS, "published")
    else:
        yield _about_counts(config, (max(to_count.values()) - max(counted.values())) / 1000)


def _about_counts(config: Config, behind: float) -> Finding:
    if behind > QUIET_SECONDS + config.counter.publish_seconds + config.counter.save_seconds:
        says = f"the newest one is {duration(behind)} older than the newest record of {config.topics.bucketed.name!r}"
        do = "look at the counter's log; if these records brought no new user, all is well"
        return warning(COUNTS, says, do)
    return ok(COUNTS, "the newest one is as new as what there is to count")
