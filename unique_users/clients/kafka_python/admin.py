"""The admin client of kafka-python."""

import re
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic, sleep

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.protocol.consumer.offsets import IsolationLevel
from kafka.structs import OffsetAndMetadata, OffsetAndTimestamp

from unique_users.clients.kafka_python.errors import explained
from unique_users.clients.kafka_python.internals.closing import LetsGo
from unique_users.clients.kafka_python.positions import position_of
from unique_users.clients.kafka_python.settings import settings_of
from unique_users.clients.protocols import (
    REQUEST_SECONDS,
    Copies,
    GroupDetails,
    Position,
    TopicDetails,
    TopicState,
    address,
)
from unique_users.clients.refused_topics import creation_refused
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerError


class ConnectedAdmin(LetsGo, KafkaAdminClient):  # type: ignore[misc]
    """The admin client; its constructor returns only once a broker answers."""


class KafkaPythonAdmin:
    """See protocols.Admin."""

    def __init__(self, config: Config) -> None:
        self._config = config
        own = {"request_timeout_ms": int(REQUEST_SECONDS * 1000)}
        with explained(config):
            self._admin = ConnectedAdmin(**settings_of(config, own, KafkaAdminClient.DEFAULT_CONFIG))

    def describe(self, name: str) -> TopicState | None:
        with explained(self._config):
            (topic,) = self._admin.describe_topics([name])
            if topic["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
                return None
            if topic["error_code"]:
                raise kafka_errors.for_code(topic["error_code"])(name)
        return TopicState(str(topic.get("topic_id") or ""), len(topic["partitions"]))

    def settings(self, name: str) -> Mapping[str, str]:
        with explained(self._config):
            described = self._admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all"
            )["topic"][name]
            if not described:  # if the answer holds an error, the client says nothing
                (topic,) = self._admin.describe_topics([name])
                raise kafka_errors.for_code(topic["error_code"] or _NO_RIGHT)(name)
        return {key: setting["value"] for key, setting in described.items()}

    def details(self, name: str) -> TopicDetails | None:
        with explained(self._config):
            (topic,) = self._admin.describe_topics([name])
            if topic["error_code"] == kafka_errors.UnknownTopicOrPartitionError.errno:
                return None
            if topic["error_code"]:
                raise kafka_errors.for_code(topic["error_code"])(name)
        copies = {
            part["partition_index"]: Copies(
                len(part["replica_nodes"]), len(part["isr_nodes"]) if part["leader_id"] >= 0 else 0
            )
            for part in topic["partitions"]
        }
        return TopicDetails(copies, _rights(topic.get("authorized_operations")))

    def group_details(self, group: str) -> GroupDetails:
        deadline = monotonic() + REQUEST_SECONDS
        while True:
            with explained(self._config):
                try:
                    answer = self._admin.describe_groups([group])[group]
                    if (error := _error_in(answer["error"])) is kafka_errors.GroupIdNotFoundError:
                        return GroupDetails(0, None)
                    if error is not None:
                        raise error(group)
                    return GroupDetails(len(answer["members"]), _rights(answer.get("authorized_operations")))
                except _COORDINATOR_COMES:
                    if monotonic() + RETRY_SECONDS >= deadline:
                        raise
            sleep(RETRY_SECONDS)

    def version(self) -> str:
        return ".".join(map(str, self._admin._manager.broker_version or ()))  # noqa: SLF001 - by the API's versions

    def create(self, topic: Topic) -> None:
        wanted = {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication,
            "configs": {name: _text(value) for name, value in topic.settings.items()},
        }
        with explained(self._config):
            try:
                self._admin.create_topics({topic.name: wanted}, wait_for_metadata=True)
            except kafka_errors.TopicAlreadyExistsError:
                self._admin.wait_for_topics([topic.name])
            except _CREATION_REFUSED as error:
                raise creation_refused(topic, error.errno, error.description) from None

    def delete(self, names: Sequence[str]) -> None:
        with explained(self._config):
            self._admin.delete_topics(list(names), raise_errors=False)

    def lag(self, group: str, topic: str) -> int:
        with explained(self._config):
            (described,) = self._admin.describe_topics([topic])
            asked = [TopicPartition(topic, part["partition_index"]) for part in described["partitions"]]
            committed = self._admin.list_group_offsets({group: asked})[group]
            ends = self._admin.list_partition_offsets(dict.fromkeys(asked, -1))
        return sum(ends[tp].offset - max(0, committed[tp].offset if tp in committed else 0) for tp in asked)

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        with explained(self._config):
            answers = self._group_offsets(group)
        found = {tp.partition: position_of(answer) for tp, answer in answers.items() if tp.topic == topic}
        return {partition: at for partition, at in found.items() if at is not None}

    def _group_offsets(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """The answer for all topics, once the group's coordinator is known. Raises KafkaError."""
        deadline = monotonic() + REQUEST_SECONDS
        while True:
            try:
                found: dict[TopicPartition, OffsetAndMetadata] = self._admin.list_group_offsets({group: None})[group]
            except kafka_errors.GroupIdNotFoundError:
                return {}
            except _COORDINATOR_COMES:
                if monotonic() + RETRY_SECONDS >= deadline:
                    raise
            else:
                return found
            sleep(RETRY_SECONDS)

    def starts(self, topic: str) -> dict[int, int]:
        return {partition: answer.offset for partition, answer in self._offsets(topic, OffsetSpec.EARLIEST).items()}

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        return {partition: answer.offset for partition, answer in self._offsets(topic, OffsetSpec.LATEST).items()}

    def stable_ends(self, topic: str) -> dict[int, int]:
        answers = self._offsets(topic, OffsetSpec.LATEST, IsolationLevel.READ_COMMITTED)
        return {partition: answer.offset for partition, answer in answers.items()}

    def newest_ms(self, topic: str) -> dict[int, int]:
        try:
            answers = self._offsets(topic, OffsetSpec.MAX_TIMESTAMP)
        except BrokerError as error:
            if isinstance(error.__context__, kafka_errors.UnsupportedVersionError):
                return {}
            raise
        return {partition: answer.timestamp for partition, answer in answers.items() if answer.timestamp >= 0}

    def _offsets(
        self, topic: str, which: OffsetSpec, isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, OffsetAndTimestamp]:
        with explained(self._config):
            (described,) = self._admin.describe_topics([topic])
            if described["error_code"]:
                raise kafka_errors.for_code(described["error_code"])(topic)
            asked = [TopicPartition(topic, part["partition_index"]) for part in described["partitions"]]
            answers = self._admin.list_partition_offsets(dict.fromkeys(asked, which), isolation_level)
        return {tp.partition: answer for tp, answer in answers.items()}

    def brokers(self) -> list[str]:
        known = self._admin._manager.cluster.brokers()  # noqa: SLF001 - a request would go to one of them
        return [address(broker.host, broker.port) for broker in known]

    def close(self) -> None:
        self._admin.close()


_NO_RIGHT = kafka_errors.TopicAuthorizationFailedError.errno
RETRY_SECONDS = 0.1
# The first group of a cluster triggers the creation of the offsets topic.
_COORDINATOR_COMES = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
)
_CREATION_REFUSED = (
    kafka_errors.InvalidReplicationFactorError,
    kafka_errors.InvalidPartitionsError,
    kafka_errors.InvalidConfigurationError,
    kafka_errors.PolicyViolationError,
    kafka_errors.InvalidTopicError,
)


def _rights(told: Iterable[str] | None) -> frozenset[str] | None:
    return None if told is None else frozenset(told)


def _error_in(said: str | None) -> type[kafka_errors.KafkaError] | None:
    """The error of which kafka-python's answer about a group has only the words."""
    match = re.search(r"\[Error (\d+)\]", said or "")
    return kafka_errors.for_code(int(match[1])) if match else None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
