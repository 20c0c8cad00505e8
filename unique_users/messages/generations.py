"""Generations: which counts belong together, and which of them are current. Pure.

A generation is named `TIME-TOPIC`: the UTC time at which a state began, and the first characters of the id of the topic
that it counts. Counts of two topics say nothing about each other, whatever the topics are called.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

ID_CHARACTERS = 8
_FORM = "%Y%m%dT%H%M%SZ"


class Generation(NamedTuple):
    """A generation, parsed from its name. Times compare as strings.

    `time` is empty for a state older than generations, `topic` if topics have no ids.
    """

    time: str
    topic: str

    @classmethod
    def parsed(cls, name: str) -> Self:
        """Parse a name; an empty one, from a record older than generations, gives two empty parts."""
        time, _, topic = name.partition("-")
        return cls(time, topic)


def new_generation(now: float, topic_id: str, former: Iterable[str] = ()) -> str:
    """The name for a state that begins now. It is newer than the `former` ones, even if the clock was set back."""
    begun = datetime.fromtimestamp(int(now), UTC)
    times = [Generation.parsed(name).time for name in former]
    if last := max(filter(None, times), default=""):
        begun = max(begun, datetime.strptime(last, _FORM).replace(tzinfo=UTC) + timedelta(seconds=1))
    return f"{begun.strftime(_FORM)}-{topic_id[:ID_CHARACTERS]}"


def continued(name: str, topic_id: str) -> str:
    """The generation of a state's counts; for a state older than generations, its topic alone."""
    return name or (f"-{topic_id[:ID_CHARACTERS]}" if topic_id else "")


def speaks_for(one: tuple[int, str], other: tuple[int, str]) -> bool:
    """Whether a generation, with its partition, knows what became of the counts of another one: not of a later topic's.

    >>> speaks_for((0, "20260201T000000Z-b"), (0, "20260101T000000Z-a"))
    True
    >>> speaks_for((0, "20260101T000000Z-a"), (0, "20260201T000000Z-b"))
    False
    """
    (partition, name), (of, counted) = one, other
    return partition == of and (name >= counted or Generation.parsed(name).topic == Generation.parsed(counted).topic)


def current(found: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """The partitions and generations whose counts are current: of those found, all of the newest one's topic.

    Counts without a generation are the oldest. They belong to the topic of a state from that time that is still in use.
    If topics have no ids, the newest generation of each partition is current.
    """
    everything = set(found)
    generations = {name: Generation.parsed(name) for _, name in everything}
    topic = max(generations.values(), default=Generation("", "")).topic
    names = {name for name, generation in generations.items() if generation.topic == topic}
    if topic:
        goes_on = any(not generations[name].time for name in names)
        return {(partition, name) for partition, name in everything if name in names or (goes_on and not name)}
    newest: dict[int, str] = {}
    for partition, name in everything:
        if name in names:
            newest[partition] = max(name, newest.get(partition, ""))
    return set(newest.items())


class Generations:
    """The partitions and generations that counts were read of; one for all readers of a topic."""

    def __init__(self) -> None:
        self._found = Counter[tuple[int, str]]()
        self._names: dict[str, str] = {}  # one string for each generation
        self.version = 0  # another one whenever there is one more or less

    def one_name(self, name: str) -> str:
        """The same string for all equal ones."""
        return self._names.setdefault(name, name)

    def note(self, partition: int, name: str) -> None:
        """Note a count."""
        self._found[partition, name] += 1
        self.version += self._found[partition, name] == 1

    def drop(self, partition: int, name: str) -> None:
        """Take it back: it was deleted."""
        self._found[partition, name] -= 1
        if not self._found[partition, name]:
            del self._found[partition, name]
            self.version += 1

    def found(self) -> list[tuple[int, str]]:
        """The partitions and generations noted, in order."""
        return sorted(self._found)

    def current(self, more: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
        """Those whose counts are current, among those noted and some more."""
        return current([*more, *self._found])
