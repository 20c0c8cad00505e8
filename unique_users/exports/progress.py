"""How far an export has read `counts`, kept beside the rows and written in the same transaction. Pure."""

import msgspec

from unique_users.messages.checkpoints import Checkpoint


class Progress(msgspec.Struct, frozen=True):
    """The positions in the topic, and what its counts depend on besides their own records.

    The topic is read from its start once, and again if what happened meanwhile may be gone from it. Such a *reading* is
    complete at the offsets `until`; then the rows that it did not find leave the table, unless they were last found by
    a reading before `keeps_before`: of a topic that is no more, or of records that were deleted.
    """

    topic: str
    topic_id: str
    offsets: dict[int, int]
    histories: dict[int, tuple[Checkpoint, ...]] = {}  # of each partition, to recognise a log that was cut back
    reading: int = 1
    until: dict[int, int] | None = None  # None: the reading is complete
    keeps_before: int = 1
    stale: bool = False  # all rows have to be looked at again
    generations: tuple[tuple[int, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    def read_again(self, topic: str, topic_id: str, until: dict[int, int], *, keeps_unseen: bool) -> "Progress":
        """The progress of the next reading from the start, of this topic or the one that takes its place."""
        reading = self.reading + 1
        keeps_before = reading if keeps_unseen else self.keeps_before
        return Progress(topic, topic_id, {}, reading=reading, until=until, keeps_before=keeps_before)
