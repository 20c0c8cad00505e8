"""Looking at topics beside a loop, and recreating those that are gone."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Thread

from unique_users.clients.protocols import Admin, TopicState
from unique_users.clients.topic_settings import as_created
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
GONE_LOOKS = 2  # brokers that just started may miss topics for a moment
CREATE_LOOKS = 5
UNHEARD_LOOKS = 15  # a loop that waits for a topic to send to hears nothing; clients let it wait for 10 s
STALE_SECONDS = 5.0
BREAK_SECONDS = 1.6  # between answers, where a look takes milliseconds; a broker takes longer to start again


class TopicWatch:
    """Looks at topics once a second in a thread of its own, so that no loop has to wait for a silent broker.

    What it knows may be a few seconds old. That is soon enough: a topic that was recreated makes the loops start
    afresh, whatever they read of it in between.

    A topic that is missing for some looks is created as at a start; who deletes one to create it anew has that time.
    Where a loop asks what is missing, it has to hear of it first: what it has in flight must not come into the next
    topic of that name.
    """

    def __init__(self, admin: Admin, config: Config, topics: Iterable[Topic]) -> None:
        self._admin = admin
        self._watched = {topic.name: Watched(as_created(config, topic)) for topic in topics}
        self._asked = False  # somebody wants to hear what is missing
        self._stop = Event()  # no Stop: it wakes up twenty times a second for signals, which threads do not get
        self._answered_at = self._heard_at = time.monotonic()
        self._breaks = 0
        self._look()
        self._thread = Thread(target=self._run, name=f"watch {', '.join(self._watched)}", daemon=True)
        self._thread.start()

    def current(self, name: str) -> TopicState:
        """A topic's state. Raises BrokerAwayError when there was none to see for a few seconds."""
        seen = self._watched[name].seen
        if seen is None or time.monotonic() - seen[0] > STALE_SECONDS:
            message = f"no answer about topic {name!r}"
            raise BrokerAwayError(message)
        return seen[1]

    def answers(self) -> tuple[float, int]:
        """Up to when the broker answered without a break, and how many breaks there were so far.

        A break is a look that failed or took long. The number counts one that goes on, and changes before the time is
        one of after a break.
        """
        answered_at = self._answered_at
        return answered_at, self._breaks + self._takes_long()

    def missing(self) -> tuple[str, ...]:
        """The topics that the broker did not have at the last looks; of a silent one, what it said before."""
        self._asked = True
        gone = [watched for watched in self._watched.values() if watched.missing >= GONE_LOOKS]
        for watched in gone:
            watched.heard = True
        return tuple(watched.topic.name for watched in gone)

    def recreated(self, *names: str) -> int:
        """How often one of these topics became another one since the watch began."""
        return sum(self._watched[name].recreated for name in names)

    def close(self) -> None:
        """Stop looking and close the admin client."""
        self._stop.set()
        self._thread.join(LOOK_SECONDS)
        if not self._thread.is_alive():  # otherwise it asks something that may take long, and ends with the process
            self._admin.close()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        began = time.monotonic()
        answered = [self._look_at(watched) for watched in self._watched.values()]
        # Also when this process was stopped meanwhile, and a broker that was away would not be noticed.
        if not all(answered) or self._takes_long():
            self._breaks += 1
        if all(answered):
            self._answered_at, self._heard_at = began, time.monotonic()

    def _look_at(self, watched: "Watched") -> bool:
        """Whether the broker said what the topic is like. A silent one is said by the loops, when this is too old."""
        try:
            watched.look(self._admin.describe(watched.topic.name), time.monotonic())
        except BrokerError:
            return False
        if watched.missing >= (CREATE_LOOKS if watched.heard or not self._asked else UNHEARD_LOOKS):
            with suppress(BrokerError):
                watched.create(self._admin)
        return True

    def _takes_long(self) -> bool:
        return time.monotonic() - self._heard_at > BREAK_SECONDS


class Watched:
    """What is known of one topic."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.seen: tuple[float, TopicState] | None = None
        self.missing = 0  # looks in a row at which it was not there
        self.heard = False  # that it is missing
        self.recreated = 0
        self._refused = ""

    def look(self, state: TopicState | None, now: float) -> None:
        """Take in what the broker says; `now` in monotonic seconds."""
        if state is None:
            self.missing += 1
            return
        # Without ids, one that comes back may be another one.
        another = self.seen is not None and (state.id != self.seen[1].id or bool(self.missing and not state.id))
        self.recreated += another
        self.seen = (now, state)
        self.missing, self.heard = 0, False
        self._refused = ""

    def create(self, admin: Admin) -> None:
        """Create the topic; say so, and what prevents it. Others may do the same at this moment."""
        try:
            admin.create(self.topic)
        except BrokerAwayError:
            raise  # also while the old one is still being deleted
        except (BrokerError, TopicError) as error:
            if str(error) != self._refused:
                self._refused = str(error)
                _log.warning(f"topic {self.topic.name!r} is gone and cannot be created: {error}")
        else:
            before = self.recreated
            self.look(admin.describe(self.topic.name), time.monotonic())
            if self.recreated > before:
                _log.warning(f"topic {self.topic.name!r} was gone: it is created again as configured, and empty")
