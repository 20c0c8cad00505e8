"""The topics are created when they are missing, and checked when they exist."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from threading import Thread

from unique_users.clients import REQUEST_BYTES_MAX, Admin, Consumer, TopicState, get_admin, when_broker_answers
from unique_users.config import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError
from unique_users.lifecycle import Stop, alive, say
from unique_users.topic_settings import as_created, notes, refusal

LOOK_SECONDS = 1.0
GONE_LOOKS = 2  # brokers that just started may miss topics for a moment
CREATE_LOOKS = 5
UNHEARD_LOOKS = 15  # a loop that waits for a topic to send to hears nothing; clients let it wait for 10 s
STALE_SECONDS = 5.0
BATCH_BYTES_NEEDED = 4096  # a uid of 256 bytes in JSON, or a dead letter that is all headers, in a batch of its own
BREAK_SECONDS = 1.6  # between answers, where a look takes milliseconds; a broker takes longer to start again


def ensure_topic(admin: Admin, topic: Topic) -> TopicState:
    """Create `topic` if it is missing and return its state. An existing topic is used as it is.

    Raises TopicError for one that would make the program wrong.
    """
    state = admin.describe(topic.name)
    if state is None:
        admin.create(topic)
        state = current_state(admin, topic.name)
    if state.partitions < topic.partitions:
        raise TopicError(
            f"topic {topic.name!r} has {state.partitions} partitions, the configuration says {topic.partitions}:"
            " lower `partitions`, or use another topic name"
        )
    return state


def current_state(admin: Admin, name: str) -> TopicState:
    """The state of a topic that should be there. Raises BrokerAwayError while it is not: it may be made again."""
    state = admin.describe(name)
    if state is None:
        raise BrokerAwayError(f"topic {name!r} does not exist")
    return state


def batch_bytes_max(admin: Admin, name: str) -> int:
    """How many bytes of records, compressed, a topic takes at once. Raises TopicError when it is of no use.

    Without the right to ask, and while it is gone, the most that a producer sends: the topic refuses what is too large
    for it.
    """
    try:
        settings = admin.settings(name) if admin.describe(name) else {}
    except BrokerAwayError:
        raise
    except BrokerError:
        return REQUEST_BYTES_MAX
    taken = int(settings.get("max.message.bytes", REQUEST_BYTES_MAX))
    if taken < BATCH_BYTES_NEEDED:
        raise TopicError(
            f"topic {name!r} has max.message.bytes={taken}, which is less than one record may need: set it to"
            f" {BATCH_BYTES_NEEDED} or more with kafka-configs"
        )
    return min(taken, REQUEST_BYTES_MAX)


def asked_bytes_max(config: Config, name: str) -> int:
    """As `batch_bytes_max`, asked by an admin client of its own."""
    with closing(get_admin(config)) as admin:
        return batch_bytes_max(admin, name)


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
        self._stop = Stop()
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
        self._stop.request()
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
                say(f"topic {self.topic.name!r} is gone and cannot be created: {error}")
        else:
            before = self.recreated
            self.look(admin.describe(self.topic.name), time.monotonic())
            if self.recreated > before:
                say(f"topic {self.topic.name!r} was gone: it is created again as configured, and empty")


def prepare_topics(config: Config, topics: Sequence[Topic], stop: Stop, reads: Topic | None = None) -> Admin | None:
    """Wait for the broker, ensure `topics` and check their settings; say what the reader of `reads` has to know.

    Return the admin client, None when a stop is requested first. Raises TopicError.
    """

    def prepare() -> tuple[Admin, list[str]]:
        admin = get_admin(config)
        try:
            for topic in topics:
                alive()
                ensure_topic(admin, as_created(config, topic))
            return admin, check_settings(config, admin, topics, reads)
        except BaseException:
            admin.close()
            raise

    prepared = when_broker_answers(config, stop, prepare)
    if prepared is None:
        return None
    admin, lines = prepared
    for line in lines:
        say(line)
    return admin


def check_settings(config: Config, admin: Admin, topics: Iterable[Topic], reads: Topic | None) -> list[str]:
    """What is to be said about the settings of these topics. Raises TopicError for those that make counts wrong."""
    settings: dict[str, Mapping[str, str]] = {}
    unread: list[str] = []
    why = None
    for topic in topics:
        try:
            settings[topic.name] = admin.settings(topic.name)
        except BrokerAwayError:
            raise
        except BrokerError as error:
            unread.append(repr(topic.name))
            why = error
    if reason := refusal(config, settings):
        raise TopicError(reason)
    lines = [] if reads is None else list(notes(config, reads, settings, int(time.time())))
    if unread:
        names = ", ".join(unread)
        lines.append(
            f"cleanup.policy and retention of {names} are not checked, it takes the right DescribeConfigs: {why}"
        )
    return lines


def ends_now(consumer: Consumer, state: TopicState) -> dict[int, int]:
    """The end offset of each partition of the consumer's topic. Raises BrokerAwayError."""
    return consumer.ends(range(state.partitions))
