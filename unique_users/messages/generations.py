"""Generations: which counts belong together, and which of them count. Pure.

A generation is named `TIME-TOPIC`: the UTC time at which a state began, and the first characters of the id of the topic
that it counts. Counts of two topics say nothing about each other, whatever the names of these are.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

ID_CHARACTERS = 8
_FORM = "%Y%m%dT%H%M%SZ"


class Generation(NamedTuple):
    """A generation, as its name says. Times compare as text.

    `time` is empty for a state that began before there were generations, `topic` where topics have no ids.
    """

    time: str
    topic: str

    @classmethod
    def parsed(cls, name: str) -> Self:
        """That of a name; of an empty one, which stands for records of before there were generations, both are."""
        time, _, topic = name.partition("-")
        return cls(time, topic)


def new_generation(now: float, topic_id: str, former: Iterable[str] = ()) -> str:
    """The name for a state that begins now: it is newer than the `former` ones, also when the clock was set back."""
    begun = datetime.fromtimestamp(int(now), UTC)
    times = [Generation.parsed(name).time for name in former]
    if last := max(filter(None, times), default=""):
        begun = max(begun, datetime.strptime(last, _FORM).replace(tzinfo=UTC) + timedelta(seconds=1))
    return f"{begun.strftime(_FORM)}-{topic_id[:ID_CHARACTERS]}"


def continued(name: str, topic_id: str) -> str:
    """What the counts of a state say: of one that began before there were generations, its topic alone."""
    return name or (f"-{topic_id[:ID_CHARACTERS]}" if topic_id else "")


def current(found: Iterable[tuple[int, str]]) -> set[tuple[int, str]]:
    """The partitions and generations whose counts count, of those that were found: all of the newest one's topic.

    Counts without a generation are the oldest; they are of the topic that a state from that time goes on with. Where
    topics have no ids, the newest generation of each partition counts.
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
