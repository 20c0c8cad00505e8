"""The topics: whether they are there, where their copies are, and what their settings do to the counts."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from unique_users.clients.protocols import Copies, TopicDetails
from unique_users.clients.topic_settings import change, notes, refusal
from unique_users.clients.topics import BATCH_BYTES_NEEDED
from unique_users.config.checks import wrong_layout
from unique_users.config.schema import Config, Topic
from unique_users.doctor.examination import BUCKETED, COUNTS, FEED, REJECTED, Examination
from unique_users.doctor.finding import Finding, Status, ok, skipped, warning, wrong
from unique_users.errors import BrokerAwayError, BrokerError

NAME = "topics"
_MADE_BY = {FEED: "producer.py or bucketer.py", BUCKETED: "bucketer.py", COUNTS: "counter.py", REJECTED: "bucketer.py"}


def named(topic: Topic) -> str:
    """What a line about a topic begins with."""
    return f"topic {topic.name}"


def configured(config: Config) -> dict[str, Topic]:
    """The four topics, by what other checks need of them."""
    topics = config.topics
    return {FEED: topics.feed, BUCKETED: topics.bucketed, COUNTS: topics.counts, REJECTED: topics.rejected}


def look(examination: Examination) -> Iterator[Finding]:
    """Look at the topics, one after the other; none is created."""
    config = examination.config
    for provides, topic in configured(config).items():
        try:
            details = examination.admin.details(topic.name)
        except BrokerAwayError:
            raise
        except BrokerError:
            yield skipped(named(topic), "this user lacks the right Describe")
            continue
        if details is None:
            do = f"start {_MADE_BY[provides]}, which creates it; if it was deleted, restore it or replay the frames"
            yield wrong(named(topic), "does not exist", do)
            continue
        examination.provided.add(provides)
        examination.details[topic.name] = details
        yield from _about(examination, topic, details)


def _about(examination: Examination, topic: Topic, details: TopicDetails) -> Iterator[Finding]:
    config = examination.config
    try:
        settings = examination.settings[topic.name] = examination.admin.settings(topic.name)
    except BrokerAwayError:
        raise
    except BrokerError:
        settings = {}
    found = [*_partitions(config, topic, len(details.copies)), *_copies(examination, topic, details)]
    found += [*_sizes(config, topic, settings), *_kept(examination, topic)]
    yield from found
    if not any(finding.status is Status.WRONG for finding in found):
        known = "" if settings else ", settings not checked: that needs the right DescribeConfigs"
        number = len(details.copies)
        partitions = f"{number} partition" + ("s" if number != 1 else "")
        copies = max(copies.wanted for copies in details.copies.values())
        yield ok(named(topic), f"{partitions}, {copies} {'copy' if copies == 1 else 'copies'} of each{known}")


def _partitions(config: Config, topic: Topic, there: int) -> Iterator[Finding]:
    if there < topic.partitions:
        says = f"has {there} partitions, the configuration says {topic.partitions}: the scripts refuse to start"
        yield wrong(named(topic), says, "lower `partitions` in the configuration, or use another topic name")
    if topic.name == config.topics.bucketed.name and (reason := wrong_layout(config, there)):
        yield wrong(named(topic), *_split(reason))


def _copies(examination: Examination, topic: Topic, details: TopicDetails) -> Iterator[Finding]:
    needed = int(examination.settings.get(topic.name, {}).get("min.insync.replicas", 1))
    name = named(topic)
    if gone := _those(details, lambda copies: not copies.in_sync):
        yield wrong(name, f"{gone}: no broker leads it, so nobody can read or write", "start the broker that is down")
    elif few := _those(details, lambda copies: copies.in_sync < needed):
        says = f"{few}: fewer copies in sync than min.insync.replicas={needed}, so nobody can write"
        too_high = any(copies.wanted < needed for copies in details.copies.values())
        command = change(examination.config, topic.name, "min.insync.replicas=1")
        yield wrong(name, says, command if too_high else "start the brokers that are down")
    elif behind := _those(details, lambda copies: copies.in_sync < copies.wanted):
        yield warning(name, f"{behind}: not all copies are in sync", "look at the brokers: one is down or slow")
    elif len(examination.brokers) > 1 and _those(details, lambda copies: copies.wanted == 1):
        says = f"one copy of each partition, on {len(examination.brokers)} brokers: losing a broker loses records"
        yield warning(name, says, "create topics with `replication: 3` and {min.insync.replicas: 2}")


def _those(details: TopicDetails, are: Callable[[Copies], bool]) -> str:
    numbers = [partition for partition, copies in sorted(details.copies.items()) if are(copies)]
    return partitions_named(numbers) if numbers else ""


def partitions_named(numbers: Sequence[int], shown_max: int = 5) -> str:
    """Partitions in words."""
    shown = ", ".join(map(str, numbers[:shown_max]))
    more = f" and {len(numbers) - shown_max} more" if len(numbers) > shown_max else ""
    return f"partition{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _sizes(config: Config, topic: Topic, settings: Mapping[str, str]) -> Iterator[Finding]:
    if "max.message.bytes" not in settings:
        return
    taken, topics = int(settings["max.message.bytes"]), config.topics
    if taken < BATCH_BYTES_NEEDED:
        says = f"max.message.bytes={taken} is less than one record may need"
        yield wrong(named(topic), says, change(config, topic.name, f"max.message.bytes={BATCH_BYTES_NEEDED}"))
    elif topic.name in {topics.feed.name, topics.rejected.name} and taken < config.frame.bytes_max:
        lost = "cannot be sent" if topic.name == topics.feed.name else "are cut there"
        says = f"max.message.bytes={taken} is less than frame.bytes_max ({config.frame.bytes_max}): long frames {lost}"
        wanted = topic.settings.get("max.message.bytes", 8 * config.frame.bytes_max)
        yield warning(named(topic), says, change(config, topic.name, f"max.message.bytes={wanted}"))


def _kept(examination: Examination, topic: Topic) -> Iterator[Finding]:
    """What the scripts say of a topic's compaction and retention when they start."""
    config, topics = examination.config, examination.config.topics
    settings = {name: each for name, each in examination.settings.items() if name == topic.name}
    if reason := refusal(config, settings):
        yield wrong(named(topic), *_split(reason))
        return
    policy = settings.get(topic.name, {}).get("cleanup.policy", "")
    if topic.name == topics.counts.name:
        if policy and "compact" not in policy:
            says = f"cleanup.policy={policy}: it grows without bound, or loses counts that no longer change"
            yield wrong(named(topic), says, change(config, topic.name, "cleanup.policy=compact"))
        return
    if topic.name in {topics.feed.name, topics.bucketed.name}:
        for note in notes(config, topic, settings, int(examination.clock.wall())):
            yield warning(named(topic), *_split(note, "; "))


def _split(text: str, mark: str = ": ") -> tuple[str, str]:
    """What is wrong and what to do, of a line that says both."""
    says, _, do = text.rpartition(mark)
    return (says, do) if says else (text, "")
