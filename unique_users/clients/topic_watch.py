"""Watches topics in the background, and recreates those that are gone."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress

from unique_users.clients.protocols import Admin, TopicState
from unique_users.clients.topic_settings import as_created
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError
from unique_users.runtime.repeating import Repeating

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
GONE_LOOKS = 2  # brokers that have just started may lack topics for a moment
CREATE_LOOKS = 5
UNHEARD_LOOKS = 15  # a loop whose send waits for a topic cannot be told; clients let it wait for 10 s
STALE_SECONDS = 5.0
BREAK_SECONDS = 1.6  # between answers: a look takes milliseconds, a broker's restart longer than this


class TopicWatch:
    """Looks at topics once a second in its own thread, so that no loop has to wait for a silent broker.

    What it knows may be a few seconds old. That is soon enough: a recreated topic makes the loops start afresh,
    whatever they read of it in between.

    A topic that is missing for several looks is created as at a start; someone who deletes one to recreate it has that
    long. A loop that asks what is missing must first be told: what it has in flight must not end up in the next topic
    of that name.
    """

    def __init__(self, admin: Admin, config: Config, topics: Iterable[Topic]) -> None:
        self._admin = admin
        self._watched = {topic.name: Watched(as_created(config, topic)) for topic in topics}
        self._asked = False  # whether a loop asks what is missing
        self._answered_at = self._heard_at = time.monotonic()
        self._breaks = 0
        self._look()
        self._looking = Repeating(f"watch {', '.join(self._watched)}", LOOK_SECONDS, self._look, first_in=LOOK_SECONDS)

    def current(self, name: str) -> TopicState:
        """A topic's state. Raises BrokerAwayError if none was seen for a few seconds."""
        seen = self._watched[name].seen
        if seen is None or time.monotonic() - seen[0] > STALE_SECONDS:
            message = f"no answer about topic {name!r}"
            raise BrokerAwayError(message)
        return seen[1]

    def answers(self) -> tuple[float, int]:
        """Until when the broker answered without a break, and how many breaks there were so far.

        A break is a look that failed or took long. The number includes one that is still going on, and changes before
        the time moves past a break.
        """
        answered_at = self._answered_at
        return answered_at, self._breaks + self._takes_long()

    def missing(self) -> tuple[str, ...]:
        """The topics that the broker lacked at the last looks; while it is silent, those from before."""
        self._asked = True
        gone = [watched for watched in self._watched.values() if watched.missing >= GONE_LOOKS]
        for watched in gone:
            watched.heard = True
        return tuple(watched.topic.name for watched in gone)

    def recreated(self, *names: str) -> int:
        """How often one of these topics was recreated since the watch began."""
        return sum(self._watched[name].recreated for name in names)

    def close(self) -> None:
        """Stop looking and close the admin client."""
        if self._looking.close(LOOK_SECONDS):
            self._admin.close()

    def _look(self) -> None:
        began = time.monotonic()
        answered = [self._look_at(watched) for watched in self._watched.values()]
        # Even if this process was stopped meanwhile, and would not notice that the broker was away.
        if not all(answered) or self._takes_long():
            self._breaks += 1
        if all(answered):
            self._answered_at, self._heard_at = began, time.monotonic()

    def _look_at(self, watched: "Watched") -> bool:
        """Whether the broker described the topic. Its silence is reported by the loops, once this is too old."""
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
        self.missing = 0  # consecutive looks without it
        self.heard = False  # whether a loop was told that it is missing
        self.recreated = 0
        self._refused = ""

    def look(self, state: TopicState | None, now: float) -> None:
        """Take in the broker's answer; `now` in monotonic seconds."""
        if state is None:
            self.missing += 1
            return
        # Without ids, a topic that comes back may be another one.
        another = self.seen is not None and (state.id != self.seen[1].id or bool(self.missing and not state.id))
        self.recreated += another
        self.seen = (now, state)
        self.missing, self.heard = 0, False
        self._refused = ""

    def create(self, admin: Admin) -> None:
        """Create the topic; log that, and what prevents it. Others may do the same at this moment."""
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
                _log.warning(f"topic {self.topic.name!r} was missing: recreated it as configured, empty")
