"""The thread that reads: it follows `counts`, looks at the pipeline, and hands over what changed."""

import logging
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import NamedTuple

from unique_users.clients.protocols import Admin, Consumer, TopicState
from unique_users.config.schema import Config
from unique_users.dashboard.health import LOOK_SECONDS, Health, State
from unique_users.errors import BrokerAwayError, BrokerError, TopicError, UniqueUsersError
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import look
from unique_users.queries.published import BucketRange, Counts, PublishedCounts, RangeError

_log = logging.getLogger(__name__)

STEP_SECONDS = 0.2  # how long a question may wait, and the stop
RETRY_SECONDS = 1.0

TakesAnswer = Callable[[Counts | Exception], None]


class Update(NamedTuple):
    """What changed since the last one. `since` says from when on the window of each interval lacks nothing."""

    changed: set[Bucket]
    found: Mapping[Bucket, PublishedBucket]
    since: Mapping[str, int]
    complete: bool
    state: State
    anew: bool = False  # forget what was before: the topic is another one


class Follower:
    """Follows the counts in a thread of its own, and tells every change to `tell`, which must not wait."""

    def __init__(
        self,
        config: Config,
        new_reader: Callable[[], Consumer],
        new_admin: Callable[[], Admin],
        tell: Callable[[Update], None],
    ) -> None:
        self._config = config
        self._new_reader = new_reader
        self._new_admin = new_admin
        self._tell = tell
        self._health = Health(config.bucketer.commit_seconds, config.counter.save_seconds)
        self._low_watermark = LowWatermark(config.counter.idle_seconds)
        self._asked: SimpleQueue[tuple[BucketRange, TakesAnswer]] = SimpleQueue()
        self._counts: PublishedCounts | None = None
        self._topic: TopicState | None = None
        self._told: tuple[object, ...] = ()
        self._refusal = ""
        self._stop = Event()
        self._other_topic = Event()
        # The admin client has a thread of its own: while a broker is silent, one question may take ten seconds.
        self._threads = [Thread(target=run, name=name, daemon=True) for name, run in self._jobs().items()]

    def _jobs(self) -> dict[str, Callable[[], None]]:
        return {"follow the counts": self._follow, "look at the pipeline": self._watch}

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether its threads still run; one that ended by a mistake has said why."""
        return all(thread.is_alive() for thread in self._threads)

    def ask(self, asked: BucketRange, answer: TakesAnswer) -> None:
        """Have a range read that the window does not hold. `answer` is called with it, or with the RangeError."""
        self._asked.put((asked, answer))

    def close(self) -> None:
        """End; a thread that waits for a silent broker is left behind."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * STEP_SECONDS)

    def _follow(self) -> None:
        while not self._stop.is_set():
            if self._other_topic.is_set():
                self._other_topic.clear()
                self._close_counts()
                self._tell(self._update(set(), anew=True))
            try:
                self._counts = self._counts or self._new_counts()
                self._take_questions(self._counts)
                self._say(self._counts.step(STEP_SECONDS))
            except (BrokerError, TopicError) as error:
                self._note(error)
                self._close_counts()
                self._say(set())
                self._stop.wait(RETRY_SECONDS)
        self._close_counts()

    def _new_counts(self) -> PublishedCounts:
        return PublishedCounts(
            self._new_reader, self._config.counter.intervals, self._config.bucketer.future_seconds_max
        )

    def _close_counts(self) -> None:
        if self._counts is not None:
            self._counts.close()
        self._counts = None

    def _take_questions(self, counts: PublishedCounts) -> None:
        while counts.complete:
            try:
                asked, answer = self._asked.get_nowait()
            except Empty:
                return
            try:
                counts.read(asked, answer)
            except RangeError as error:
                answer(error)

    def _say(self, changed: set[Bucket]) -> None:
        """Tell what changed, if anything did."""
        update = self._update(changed)
        said = (update.state, update.complete, update.since)
        if changed or said != self._told:
            self._told = said
            self._tell(update)

    def _update(self, changed: set[Bucket], *, anew: bool = False) -> Update:
        counts = self._counts
        found = counts.merged(changed) if counts else {}
        intervals: list[str] = [*self._config.counter.intervals]
        since = {name: counts.since(name) for name in intervals} if counts else {}
        return Update(
            changed, found, since, counts is not None and counts.complete, self._health.state(time.time()), anew
        )

    def _watch(self) -> None:
        admin: Admin | None = None
        while not self._stop.is_set():
            try:
                admin = admin or self._new_admin()
                if self._counts_exist(admin):
                    progress = look(admin, self._config, self._low_watermark, time.monotonic())
                    self._health.look(progress, time.time())
                else:
                    self._health.miss(self._missing(admin), time.time())
                self._refusal = ""
            except BrokerError as error:
                self._note(error)
                if missing := self._missing(admin):
                    self._health.miss(missing, time.time())
            self._stop.wait(LOOK_SECONDS)
        if admin is not None:
            admin.close()

    def _missing(self, admin: Admin | None) -> list[str]:
        """The topics that the broker says it has not; none if it says nothing."""
        topics = self._config.topics
        names = (topics.feed.name, topics.bucketed.name, topics.counts.name)
        try:
            return [name for name in names if admin is not None and admin.describe(name) is None]
        except BrokerError:
            return []

    def _counts_exist(self, admin: Admin) -> bool:
        """Whether there is a topic of counts.

        One that was recreated holds other records at the same offsets, and a reader does not see new partitions.
        """
        topic = admin.describe(self._config.topics.counts.name)
        if topic is None:
            return False
        if self._topic not in {None, topic}:
            self._other_topic.set()
        self._topic = topic
        return True

    def _note(self, error: UniqueUsersError) -> None:
        """Log once what waiting does not fix; the page says when the broker is away."""
        if not isinstance(error, BrokerAwayError) and str(error) != self._refusal:
            self._refusal = str(error)
            _log.warning(str(error))
