"""How the topics' settings affect the counts, without asking the broker."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import NamedTuple, Self

from msgspec.structs import replace

from unique_users.config.schema import Config, Topic
from unique_users.event_time.buckets import LONGEST_SECONDS, iso_time

DAY = 86_400
HOUR = 3_600
MARGIN_SECONDS = DAY  # on top of what a rebuild needs: somebody has to notice first that the state is gone
RETENTION_SECONDS_MIN = 7 * DAY  # Kafka's default; it is never shortened
FEED_SECONDS_MIN = DAY  # a bucketer that fails in the evening is repaired in the morning

Settings = Mapping[str, Mapping[str, str]]  # of each topic, by name


def rebuild_seconds(config: Config) -> int | None:
    """How long `bucketed` must keep its records, so that a counter without a state counts every open bucket whole.

    None: forever, because nothing is ever too late.
    """
    if not config.bucketer.allowed_lateness_seconds:
        return None
    longest = max(LONGEST_SECONDS[name] for name in config.counter.intervals)
    return longest + config.bucketer.allowed_lateness_seconds + config.bucketer.future_seconds_max


def retention_ms(config: Config) -> int:
    """The `retention.ms` of a new `bucketed`: what a rebuild needs plus a margin, in whole days; -1 is forever."""
    needed = rebuild_seconds(config)
    if needed is None:
        return -1
    return max(RETENTION_SECONDS_MIN, ceil((needed + MARGIN_SECONDS) / DAY) * DAY) * 1000


def as_created(config: Config, topic: Topic) -> Topic:
    """`topic` with the settings it is created with if it is missing.

    Those that the configuration names are added to the defaults.
    """
    defaults = dict(type(topic)(name=topic.name).settings)
    if topic.name == config.topics.bucketed.name:
        defaults["retention.ms"] = retention_ms(config)
    return replace(topic, settings={**defaults, **topic.settings})


def refusal(config: Config, settings: Settings) -> str | None:
    """Why these topics would make the counts wrong, and how to fix it; None if they would not."""
    names = config.topics
    why = {
        names.feed.name: "which deletes frames, so that counts are too low",
        names.bucketed.name: "which deletes users, so that counts are too low",
        names.rejected.name: "but rejected frames have no key, so that the broker refuses them",
    }
    for name, reason in why.items():
        policy = settings.get(name, {}).get("cleanup.policy") or ""
        if "compact" in policy:
            way_out = change(config, name, "cleanup.policy=delete")
            return (
                f"topic {name!r} has cleanup.policy={policy}, {reason}: {way_out}, or use another topic name;"
                " and replay what was compacted"
            )
    return None


def notes(config: Config, reads: Topic, settings: Settings, now: int) -> Iterator[str]:
    """What the operator of the script that reads `reads` should know, one line each; `now` in epoch seconds."""
    names = config.topics
    if (read := settings.get(reads.name)) is not None:
        line = _bounded_feed if reads.name == names.feed.name else _bounded_rebuild
        if text := line(config, Retention.of(read), now):
            yield text
    counts = settings.get(names.counts.name, {})
    retention = Retention.of(counts)
    if counts.get("cleanup.policy") == "delete" and retention.bounded:
        yield (
            f"topic {names.counts.name!r} has cleanup.policy=delete and keeps {retention}: counts that do not change"
            f" any more go then; {change(config, names.counts.name, 'cleanup.policy=compact')}"
        )


class Retention(NamedTuple):
    """How much a topic keeps; None means everything."""

    milliseconds: int | None
    bytes: int | None

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """The retention of a topic with these settings."""
        return cls(*(_bound(settings.get(name)) for name in ("retention.ms", "retention.bytes")))

    @property
    def bounded(self) -> bool:
        """Whether it keeps less than everything."""
        return self != Retention(None, None)

    def keeps(self, seconds: int | None) -> bool:
        """Whether all records are kept for `seconds`; None: forever."""
        return self.milliseconds is None or (seconds is not None and self.milliseconds >= seconds * 1000)

    def __str__(self) -> str:
        """In words, with the settings that say so."""
        time = "" if self.milliseconds is None else f"{_span(self.milliseconds)} (retention.ms={self.milliseconds})"
        if self.bytes is None:
            return time
        size = f"{self.bytes:,} bytes a partition (retention.bytes={self.bytes})"
        return f"{time} and at most {size}" if time else f"at most {size}"


def change(config: Config, topic: str, *settings: str) -> str:
    """The command that changes a topic's settings, as a fix."""
    options = f"--alter --entity-type topics --entity-name {topic} --add-config {','.join(settings)}"
    # The tool of 2.4 changes topics only through ZooKeeper; newer ones also come with a version of the broker.
    version = " --kafka-version 4.3.1" if config.broker.version == "2.4.0" else ""
    return f"`unique-users broker tool{version} kafka-configs {options}`"


def _bounded_feed(config: Config, kept: Retention, _now: int) -> str | None:
    if kept.keeps(FEED_SECONDS_MIN) and kept.bytes is None:
        return None
    way_out = _widen(config, config.topics.feed.name, kept, FEED_SECONDS_MIN, RETENTION_SECONDS_MIN * 1000)
    return f"topic {config.topics.feed.name!r} keeps {kept}: frames that are not read by then are lost; {way_out}"


def _bounded_rebuild(config: Config, kept: Retention, now: int) -> str | None:
    needed = rebuild_seconds(config)
    if kept.keeps(needed) and kept.bytes is None:
        return None
    name = config.topics.bucketed.name
    takes = "every record" if needed is None else _span(needed * 1000)
    reach = "as far back as these bytes reach"
    if kept.milliseconds is not None and not kept.keeps(needed):
        # A frame's time is at most this far ahead of its record's, so nothing later can be missing.
        whole_from = now - kept.milliseconds // 1000 + config.bucketer.future_seconds_max
        reach = f"that begin after {iso_time(max(0, whole_from))}"
    lost = "" if kept.keeps(HOUR) else ", and what is not counted by then is lost"
    return (
        f"topic {name!r} keeps {kept}, and counting anew without the state takes {takes}: now only buckets {reach}"
        f" would be whole{lost}; back the state up, or {_widen(config, name, kept, needed, retention_ms(config))}"
    )


def _widen(config: Config, name: str, kept: Retention, needed: int | None, milliseconds: int) -> str:
    wider = [] if kept.keeps(needed) else [f"retention.ms={milliseconds}"]
    return change(config, name, *wider, *([] if kept.bytes is None else ["retention.bytes=-1"]))


def _bound(value: str | None) -> int | None:
    """A setting for which a negative number means no limit."""
    return None if value is None or int(value) < 0 else int(value)


def _span(milliseconds: int) -> str:
    """A time in the largest unit that divides it."""
    seconds = milliseconds / 1000
    unit, name = next(((u, n) for u, n in ((DAY, "days"), (HOUR, "h")) if seconds >= u), (1, "s"))
    return f"{round(seconds / unit, 1):g} {name}"
