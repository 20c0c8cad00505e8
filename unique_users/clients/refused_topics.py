"""Why a broker does not create a topic, in words."""

from unique_users.config.schema import Topic
from unique_users.errors import TopicError

# By Kafka's number of the error, which is the same in every client.
_WHY = {
    17: "Kafka does not accept this name: use letters, digits, `.`, `_` and `-`",
    37: "the broker does not accept this number of partitions",
    38: "the cluster has too few brokers for so many replicas: lower `replication` of the topic, or start more brokers",
    40: "the broker does not accept one of these settings: correct the `settings` of the topic",
    44: "a policy of the broker forbids it: change the topic in the configuration, or have it created by hand",
}


def creation_refused(topic: Topic, number: int, said: str) -> TopicError:
    """The error for a topic that the broker refuses to create, with error `number`; `said` if that is a rare one."""
    asked = [_several(topic.partitions, "partition"), _several(topic.replication, "replica")]
    asked += [f"{name}={value}" for name, value in topic.settings.items()]
    return TopicError(f"topic {topic.name!r} cannot be created with {', '.join(asked)}: {_WHY.get(number, said)}")


def _several(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
