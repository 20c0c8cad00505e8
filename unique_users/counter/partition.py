"""One partition of `bucketed`: its users in memory, its state on disk, and how far it was read.

Longer than other modules: everything that changes the state of a partition is here, and nowhere else.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from msgspec.structs import replace

from unique_users.aggregation.bucket_users import BucketUsers, Origin
from unique_users.aggregation.completeness import UNTIL_KNOWN, Gap, Why, ended, still_needed, why_not_whole, with_gaps
from unique_users.aggregation.counts import Count, users_in
from unique_users.clients.protocols import Batch
from unique_users.counter.counts_topic import Due
from unique_users.counter.end_counts import EndCounts
from unique_users.counter.publish_keep import PublishKeep
from unique_users.event_time.buckets import DAY_SECONDS, MINUTE, Bucket, bucket_timestamp, iso_time
from unique_users.event_time.rollup import Rollup
from unique_users.messages.bucketed import minute_of, uids_of, users_by_bucket
from unique_users.messages.checkpoints import Found
from unique_users.messages.dead_letters import DeadLetter
from unique_users.messages.frame import Reason
from unique_users.messages.generations import continued
from unique_users.messages.merged_counts import FormerCount
from unique_users.partition_log.read_history import Past
from unique_users.runtime.activity import ACTIVITY
from unique_users.runtime.memory import give_memory_back
from unique_users.state.store import Store

# After this many uids have left memory, it is given back: tables of at least 20 MB. Each time costs milliseconds.
GIVE_BACK_UIDS = 500_000
OLD_AT_ONCE = 10_000  # counts that leave the topic with one publication
WAITS_MAX = 60  # publications that old counts wait for the low watermark, which nobody may be allowed to see


class CountedPartition:
    """Adds records, saves them together with the position, and drops what is closed and past its retention.

    `saved_offset` is None while nothing is saved yet. Buckets are kept for `keep_seconds` behind the low watermark,
    before which nothing more arrives; forever if that is None. Their counts stay in `counts` for `publish_keep`.
    """

    def __init__(
        self,
        store: Store,
        origin: Origin,
        rollup: Rollup,
        keep_seconds: int | None,
        uids_in_memory_max: int,
        publish_keep: PublishKeep,
    ) -> None:
        self.origin = origin
        self.facts = store.facts
        self._published_gaps: tuple[Gap, ...] = ()
        self._store = store
        self._rollup = rollup
        self._users = BucketUsers(self._store.counts, self._store.load, self._store.load_sketch, rollup)
        self._keep_seconds = keep_seconds
        self._uids_in_memory_max = uids_in_memory_max
        self._publish_keep = publish_keep
        self.old: list[Bucket] = []  # published counts that are to leave the topic, see `note_old`
        self._old_until = 0  # the low watermark at which they were looked for
        # What is going to leave the topic, until the topic says so; nothing leaves before that.
        self._removing: tuple[Gap, ...] | None = None
        self._waits_left = WAITS_MAX
        self._end_counts = EndCounts(self._store.at_end, rollup.calendar)
        self._low_watermark: int | None = None
        # A low watermark and the clock of the slowest partition of feed, and the position from which they hold.
        self._coming: tuple[int | None, int | None, int] | None = None
        self.saved_offset = self._store.next_offset
        self.position = self.saved_offset or 0
        self.past = Past(self._store.facts.history)
        self._freed_uids = 0  # since memory was last given back
        self.new = Counter[Bucket]()  # users new in each bucket since the counter took them
        self.unpublished = set(self._users.counts())  # a crash may have come between saving and publishing
        # Another counter, with another state, may have counted and published up to here.
        self.publish_from = 0
        self.unreadable = 0
        # Records for buckets that are gone. No save goes past them until they are in the dead-letter topic.
        self.undelivered: list[DeadLetter] = []
        self._undelivered_from = 0
        self._undelivered_users = 0

    def count(self, bucket: Bucket) -> Count:
        """The unique users of a bucket."""
        return self._users.counts().get(bucket, 0)

    def sketches(self, buckets: Iterable[Bucket]) -> dict[Bucket, bytes]:
        """The bytes of the sketches of those buckets that are estimated."""
        estimates = self._rollup.estimates
        return {bucket: self._users.sketch(bucket).to_bytes() for bucket in buckets if bucket.interval in estimates}

    def buckets(self) -> set[Bucket]:
        """All buckets held."""
        return set(self._users.counts())

    @property
    def users_in_memory(self) -> int:
        """User ids held in memory, over all buckets."""
        return self._users.uids_in_memory

    @property
    def newest_minute(self) -> Bucket | None:
        """The newest minute that has ended while it was counted."""
        return self._end_counts.newest_minute

    @property
    def floor(self) -> int:
        """No minute before this one is left."""
        return self._store.floor

    @property
    def generation(self) -> str:
        """The generation of its counts, as published."""
        return continued(self.facts.generation, self.origin.topic_id)

    def why(self, bucket: Bucket) -> tuple[Why, ...]:
        """Why the count of a bucket may be wrong; empty for a whole one."""
        gaps = (*self.facts.all_gaps, *self.facts.former_gaps)  # of those, others may hold buckets
        return why_not_whole(gaps, bucket, self._rollup.calendar)

    def mark(self, gaps: Iterable[Gap]) -> None:
        """Note gaps, some of which may be known already. The buckets they mark are due to be published."""
        self._have_gaps(with_gaps(self.facts.gaps, gaps))

    def end_gaps(self, end: int) -> set[Why]:
        """End, at `end`, the gaps whose end was not known yet. Returns why there were some."""
        open_ones = {gap.why for gap in self.facts.gaps if gap.end == UNTIL_KNOWN}
        if open_ones:
            self._have_gaps(ended(self.facts.gaps, end))
        return open_ones

    def miss_frames(self, since: int | None) -> None:
        """Note from which time on frames of `feed` are missing, up to a time that the next one tells; None if none are.

        The gaps that are known by then have to be noted before.
        """
        if since != self.facts.feed_gap:
            before, self.facts = self.facts.all_gaps, replace(self.facts, feed_gap=since)
            self._republish_marks(before)

    def what_to_publish(self, counts: Mapping[Bucket, Count]) -> Due:
        """These counts with everything that belongs to them. The counts of dropped buckets are deleted from the topic.

        A bucket counted again after it was dropped is deleted right before its new count, so only together with it.
        """
        held = self._users.counts()
        why = {bucket: found for bucket in counts if (found := self.why(bucket))}
        withdrawn = [b for b in self.facts.withdrawn if b in counts or b not in held or self._may_leave(b)]
        if self._removing is None:
            withdrawn += [bucket for bucket in self.old[:OLD_AT_ONCE] if bucket not in counts]
        gaps = with_gaps(self.facts.former_gaps, self.facts.all_gaps)
        told = gaps if gaps != self._published_gaps else None
        at_end = self._end_counts.of(counts)
        return Due(counts, self.sketches(counts), why, withdrawn, self.generation, told, at_end, self._removing)

    def mark_published(self, due: Due) -> None:
        """Note that all of this has arrived."""
        if due.gaps is not None:
            self._published_gaps = due.gaps
        if due.removed is not None:
            self.facts = replace(self.facts, removed=due.removed)
            self._removing = None
        if due.withdrawn:
            left = tuple(bucket for bucket in self.facts.withdrawn if bucket not in due.withdrawn)
            self.facts = replace(self.facts, withdrawn=left)
            self._old_left({*due.withdrawn})

    def _have_gaps(self, gaps: tuple[Gap, ...]) -> None:
        before = self.facts.all_gaps
        needed = still_needed(gaps, self.floor, self._users.counts(), self._rollup.calendar)
        former = with_gaps(self.facts.former_gaps, set(gaps) - set(needed))
        if (needed, former) != (self.facts.gaps, self.facts.former_gaps):
            self.facts = replace(self.facts, gaps=needed, former_gaps=former)
            self._republish_marks(before)

    def _republish_marks(self, before: tuple[Gap, ...]) -> None:
        """Have those buckets published whose marks are others than with these gaps."""
        after, calendar = self.facts.all_gaps, self._rollup.calendar
        self.unpublished.update(
            bucket
            for bucket in self._users.counts()
            if why_not_whole(after, bucket, calendar) != why_not_whole(before, bucket, calendar)
        )

    def add(self, batch: Batch, now: float = 0.0) -> None:
        """Count a batch of records at a monotonic time. May save when memory is full, see BucketUsers.evict."""
        users = users_by_bucket(batch.keys, batch.values)
        self.unreadable += users.unreadable
        ACTIVITY.records_unreadable += users.unreadable
        if late := {minute for minute in users.by_bucket if minute < self._store.floor}:
            self._reject(batch, late)
            self._undelivered_users += sum(len(users.by_bucket.pop(minute)) for minute in late)
        for minute, uids in users.by_bucket.items():
            self.past.cover(minute)
            new = self._users.add(minute, uids)
            self.new.update(new)
            for bucket, added in new.items():
                ACTIVITY.new_users[bucket.interval] += added
            self.unpublished.update(new)
            self._end_counts.note_first(bucket for bucket, added in new.items() if added == self.count(bucket))
            if not self._evict():
                # Uids saved ahead of the position are read again after a crash, and change nothing then.
                self.save()
                self._evict()
        self.position = batch.next_offset
        self.past.read(batch, now)

    def mark_delivered(self) -> None:
        """Note that what was undelivered is in the dead-letter topic."""
        self.facts = replace(self.facts, late=self.facts.late + self._undelivered_users)
        ACTIVITY.late_users += self._undelivered_users
        self.undelivered = []
        self._undelivered_users = 0

    def save(self) -> None:
        """Write what was added, the facts and the position. Raises StateError; the last save is then still valid."""
        users = self._users
        added = users.unsaved() or users.unsaved_sketches() or self._end_counts.unsaved
        position = self._undelivered_from if self.undelivered else self.position
        if position == self.saved_offset and not added and self.facts == self._store.facts:
            return
        self.facts = replace(self.facts, history=self.past.remember())
        saved = users.unsaved(), users.unsaved_sketches(), users.counts(), position, self.facts
        self._store.save(*saved, self._end_counts.unsaved)
        users.mark_saved()
        self._end_counts.mark_saved()
        self.saved_offset = position

    def follow(self, low_watermark: int | None, end: int, clock: int | None = None) -> None:
        """Note that nothing before `low_watermark` arrives any more once the partition is read up to `end`.

        It then has everything that came before the stream was at the time `clock`.
        """
        if self._coming is None or self.position >= end:
            self._coming = (low_watermark, clock, end)
        low_watermark, clock, end = self._coming
        if self.position < end:
            return
        self._coming = None
        self._waits_left = 0
        if low_watermark is not None:
            self._low_watermark = low_watermark
        if clock is not None:
            self.unpublished |= self._end_counts.follow(clock, self._users.counts())

    @property
    def must_settle(self) -> bool:
        """Whether it begins anew, has caught up, and does not know yet what former states have published."""
        return self.facts.unsettled and self.position >= self.publish_from

    def settle(self, former: Mapping[Bucket, FormerCount]) -> int:
        """Withdraw the counts of former states that are higher than what the log holds. Returns how many.

        Where this state has gaps, a former one may have counted more. Whether that was too much, only its mark tells.
        """
        calendar = self._rollup.calendar
        missing = [bucket for bucket in former if self.why(bucket)]
        too_high = [
            bucket
            for bucket in former.keys() - missing
            if users_in(self.count(bucket)) < users_in(former[bucket].total)
        ]
        withdrawn = tuple(dict.fromkeys([*self.facts.withdrawn, *sorted(too_high)]))
        self.facts = replace(self.facts, unsettled=False, withdrawn=withdrawn)
        self.unpublished.update(self._users.counts().keys() & too_high)
        self.mark(
            Gap(bucket.interval, bucket.start, calendar.end(bucket), Why.LOG_CUT_BACK)
            for bucket in missing
            if former[bucket].may_be_too_high
        )
        return len(too_high)

    def go_back(self, found: Found) -> tuple[int, int] | None:
        """Keep the users, go back in the log to where it is still the one that was read, and save.

        Returns the first and the last minute that may hold users of records that are gone; these are marked.
        """
        minutes = self.past.go_back(found.offset)
        self.facts = replace(self.facts, history=self.past.history)
        if minutes:
            self.mark([Gap("", minutes[0], minutes[1] + MINUTE.seconds, Why.LOG_CUT_BACK)])
        # What is not in the dead-letter topic yet is read again, as far as it still exists.
        self.position = min(found.offset, self._undelivered_from if self.undelivered else self.position)
        self.undelivered, self._undelivered_users = [], 0
        self.save()
        # The broker may have lost counts as well. Nobody else published higher ones for this log as it is now.
        self.publish_counts_again()
        self.publish_from = min(self.publish_from, found.end)
        return minutes

    def take_unpublished(self) -> dict[Bucket, Count]:
        """The counts that changed since the last call, without those that leave the topic for their age.

        While the partition is still catching up, only those past their retention: nothing more arrives for them. What
        may be too old waits for the low watermark.
        """
        due = self.unpublished
        if self.position < self.publish_from:
            floor = self._retention_floor()
            due = {bucket for bucket in due if self._rollup.last_minute(bucket) < floor}
        elif self._publish_keep and self._waits_left:
            self._waits_left -= 1
            newest = max((b.start for b in self._users.counts() if b.interval == MINUTE.name), default=None)
            due = {bucket for bucket in due if not self._publish_keep.is_over(bucket, newest)}
        counts = {bucket: self.count(bucket) for bucket in sorted(due) if not self._leaves(bucket)}
        self.unpublished = self.unpublished - due
        return counts

    @property
    def may_have_old(self) -> bool:
        """Whether to look in the topic for counts that are old enough to leave it: once for each day of event time."""
        if not self._publish_keep or self.old or self.facts.unsettled or self._low_watermark is None:
            return False
        return self._low_watermark >= self.facts.counts_withdrawn_until + DAY_SECONDS

    @property
    def never_looked(self) -> bool:
        """Whether it is a new state, and does not know yet which counts have left the topic, or are to."""
        return self.facts.counts_kept_before == 0 and not self.facts.counts_withdrawn_until

    def is_old(self, bucket: Bucket) -> bool:
        """Whether the count of a bucket is old enough to leave the topic."""
        return self._publish_keep.is_over(bucket, self._low_watermark)

    @property
    def has_to_tell(self) -> bool:
        """Whether something is to be published besides counts that changed."""
        return bool(self.facts.withdrawn or self.old or self._removing is not None)

    def publish_counts_again(self) -> None:
        """Have all counts published once more, as after a start: the broker may have lost some."""
        self.unpublished = set(self._users.counts())

    def publish_again(self) -> None:
        """Have everything published once more: the topic is a new one."""
        self.unpublished |= self.buckets()
        self._published_gaps = ()
        if removed := with_gaps(self.facts.removed, self._removing or ()):
            self.facts, self._removing = replace(self.facts, removed=()), removed

    def note_old(self, found: Iterable[Bucket], removed: Iterable[Gap]) -> int:
        """Have those counts leave the topic that it holds and that are old enough. Returns how many stay all the same.

        What a version published that kept everything stays. `removed` is what other states have removed by then. The
        topic says first what leaves it: other partitions may still have counts of the same buckets.
        """
        old = [bucket for bucket in found if self.is_old(bucket)]
        if self.facts.counts_kept_before is None:
            self.facts = replace(self.facts, counts_kept_before=self._low_watermark if old else 0)
        kept_before = self.facts.counts_kept_before
        self.old = sorted(bucket for bucket in old if not self._publish_keep.is_over(bucket, kept_before))
        self._old_until = self._low_watermark or 0
        leaving = self._publish_keep.gaps(kept_before or 0, self._old_until)
        removing = with_gaps([*self.facts.removed, *removed], leaving)
        self._removing = removing if removing != self.facts.removed else None
        stay = len(old) - len(self.old)
        self._old_left(())
        return stay

    def _leaves(self, bucket: Bucket) -> bool:
        """Whether the count of a bucket has left the topic, or is going to."""
        return self._may_leave(bucket) or (self.is_old(bucket) and self._covered(bucket, self._removing or ()))

    def _may_leave(self, bucket: Bucket) -> bool:
        """Whether the topic says that the count of a bucket has left it, and it is still to do so."""
        return self.is_old(bucket) and self._covered(bucket, self.facts.removed)

    def _covered(self, bucket: Bucket, gaps: Iterable[Gap]) -> bool:
        end = self._rollup.calendar.end(bucket)
        return any(gap.interval == bucket.interval and gap.start <= bucket.start and end <= gap.end for gap in gaps)

    def _old_left(self, gone: Container[Bucket]) -> None:
        """Note that these have left the topic; with the last one, how far it is in order."""
        self.old = [bucket for bucket in self.old if bucket not in gone]
        if not self.old and self._old_until:
            self.facts = replace(self.facts, counts_withdrawn_until=self._old_until)
            self._old_until = 0

    def close(self) -> None:
        """Close the file. Saves nothing."""
        self._store.close()

    def drop_old(self) -> dict[Bucket, Count]:
        """Drop the buckets past their retention, as far as they are saved and published. Returns their counts.

        A bucket stays until its last minute is past its retention.
        """
        if self._store.facts.unsettled:
            return {}  # nothing could be compared with what is dropped
        self._have_gaps(self.facts.gaps)  # without those of what was dropped last time
        # After a crash, buckets noted as withdrawn and not held would be deleted from the topic once more.
        again = self._users.counts().keys() & self._store.facts.withdrawn
        waiting = self.unpublished.union(self._users.unsaved(), self._users.unsaved_sketches(), again)
        floor = min([self._retention_floor(), *map(self._rollup.last_minute, waiting)])
        if floor <= self._store.floor:
            return {}
        dropped = self._users.drop_before(floor)
        if dropped:
            self._store.drop(list(dropped), floor)
            self._end_counts.forget(dropped)
        return dropped

    def _evict(self) -> bool:
        """See BucketUsers.evict."""
        before = self._users.uids_in_memory
        done = self._users.evict(self._uids_in_memory_max)
        self._freed_uids += before - self._users.uids_in_memory
        if self._freed_uids >= GIVE_BACK_UIDS:
            give_memory_back()
            self._freed_uids = 0
        return done

    def _retention_floor(self) -> int:
        """The first minute that is not past its retention."""
        if self._keep_seconds is None or self._low_watermark is None:
            return 0
        return max(0, bucket_timestamp(self._low_watermark - self._keep_seconds))

    def _reject(self, batch: Batch, late: Container[int | None]) -> None:
        """Note the records of a batch that are for minutes before the floor."""
        if not self.undelivered:
            self._undelivered_from = self.position
        detail = f"its minute is closed; this partition keeps those from {iso_time(self._store.floor)} on"
        columns = (batch.keys, batch.values, batch.offsets, batch.timestamps_ms)
        for key, value, offset, timestamp_ms in zip(*columns, strict=True):
            if minute_of(key) in late and uids_of(value):  # the others are unreadable, and reported as such
                source = (self.origin.topic, self.origin.partition, offset)
                self.undelivered.append(DeadLetter(Reason.LATE, detail, *source, value or b"", key, timestamp_ms))
