"""The admin client of librdkafka."""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import Any
from uuid import UUID

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ListOffsetsResultInfo, NewTopic, OffsetSpec

from unique_users.clients import REQUEST_SECONDS, Position, TopicState
from unique_users.clients.librdkafka.errors import Refusal, explained, reason
from unique_users.clients.librdkafka.positions import position_of
from unique_users.clients.librdkafka.settings import SLICE_SECONDS, as_text, built, settings_of
from unique_users.config import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError, TopicError


class LibrdkafkaAdmin:
    """See clients.Admin."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._refusal = Refusal(config)
        settings = settings_of(config, {}) | {"error_cb": self._refusal}
        self._admin: Any = built(config, AdminClient, settings)
        self._refusal.connect(self._admin)

    def describe(self, name: str) -> TopicState | None:
        self._admin.poll(0)  # has the errors told aside heard, and forgotten
        asked = confluent_kafka.TopicCollection([name])
        try:
            with explained(self._config):
                (future,) = self._admin.describe_topics(asked, request_timeout=REQUEST_SECONDS).values()
                topic = future.result()
        except BrokerAwayError as error:
            if isinstance(error.__context__, KafkaException) and error.__context__.args[0].code() in _NO_TOPIC:
                return None
            raise
        return TopicState(_topic_id(topic.topic_id), len(topic.partitions))

    def settings(self, name: str) -> Mapping[str, str]:
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name)]
        with explained(self._config):
            (future,) = self._admin.describe_configs(asked, request_timeout=REQUEST_SECONDS).values()
            return {setting.name: setting.value for setting in future.result().values()}

    def create(self, topic: Topic) -> None:
        settings = {name: as_text(value) for name, value in topic.settings.items()}
        wanted = NewTopic(topic.name, topic.partitions, topic.replication, config=settings)
        with explained(self._config):
            (future,) = self._admin.create_topics(
                [wanted], operation_timeout=REQUEST_SECONDS, request_timeout=REQUEST_SECONDS + 1
            ).values()
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() in _CREATION_REFUSED:
                    described = {"partitions": topic.partitions, "replication": topic.replication, "settings": settings}
                    message = f"topic {topic.name!r} cannot be created with {described}: {reason(error.args[0])}"
                    raise TopicError(message) from None
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        self._wait_until_usable(topic.name)

    def _wait_until_usable(self, name: str) -> None:
        """Wait until every broker that answers knows the topic and the leaders of its partitions."""
        deadline = monotonic() + REQUEST_SECONDS
        while True:
            with explained(self._config):
                topic = self._admin.list_topics(name, timeout=max(0.0, deadline - monotonic())).topics[name]
            if topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values()):
                return
            if monotonic() >= deadline:
                message = f"topic {name!r} was created, but it has no leaders yet"
                raise BrokerAwayError(message)
            sleep(SLICE_SECONDS)

    def delete(self, names: Sequence[str]) -> None:
        with explained(self._config):
            futures = self._admin.delete_topics(
                list(names), operation_timeout=REQUEST_SECONDS, request_timeout=REQUEST_SECONDS + 1
            )
            for future in futures.values():
                try:
                    future.result()
                except KafkaException as error:
                    if error.args[0].code() not in _NO_TOPIC:
                        raise

    def lag(self, group: str, topic: str) -> int:
        state = self.describe(topic)
        asked = [TopicPartition(topic, partition) for partition in range(state.partitions if state else 0)]
        if not asked:
            return 0
        of_group = [confluent_kafka.ConsumerGroupTopicPartitions(group, asked)]
        with explained(self._config):
            (future,) = self._admin.list_consumer_group_offsets(of_group, request_timeout=REQUEST_SECONDS).values()
            committed = {answer.partition: max(0, answer.offset) for answer in future.result().topic_partitions}
            ends = self._admin.list_offsets(dict.fromkeys(asked, OffsetSpec.latest()), request_timeout=REQUEST_SECONDS)
            return sum(end.result().offset - committed.get(tp.partition, 0) for tp, end in ends.items())

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        of_group = [confluent_kafka.ConsumerGroupTopicPartitions(group)]
        with explained(self._config):
            (future,) = self._admin.list_consumer_group_offsets(of_group, request_timeout=REQUEST_SECONDS).values()
            try:
                answers = future.result().topic_partitions
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return {}
                raise
        found = {answer.partition: position_of(answer) for answer in answers if answer.topic == topic}
        return {partition: at for partition, at in found.items() if at is not None}

    def ends(self, topic: str) -> dict[int, int]:
        return {partition: answer.offset for partition, answer in self._offsets(topic, OffsetSpec.latest()).items()}

    def newest_ms(self, topic: str) -> dict[int, int]:
        try:
            answers = self._offsets(topic, OffsetSpec.max_timestamp())
        except BrokerError as error:
            if isinstance(error.__context__, KafkaException) and error.__context__.args[0].code() in _UNSUPPORTED:
                return {}
            raise
        return {partition: answer.timestamp for partition, answer in answers.items() if answer.timestamp >= 0}

    def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, ListOffsetsResultInfo]:
        state = self.describe(topic)
        if state is None:
            raise BrokerAwayError(f"the broker has no topic {topic!r}")
        asked = {TopicPartition(topic, partition): which for partition in range(state.partitions)}
        with explained(self._config):
            answers = self._admin.list_offsets(asked, request_timeout=REQUEST_SECONDS)
            return {tp.partition: answer.result() for tp, answer in answers.items()}

    def close(self) -> None:
        self._admin = None  # the last reference: its end disconnects


_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_UNSUPPORTED = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}
_CREATION_REFUSED = {
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError._INVALID_ARG,
}


def _topic_id(uuid: Any) -> str:
    """The id as other clients write it; librdkafka has it as two signed halves, 0 where brokers have no ids."""
    if uuid is None:
        return ""
    mask = (1 << 64) - 1
    number = (uuid.get_most_significant_bits() & mask) << 64 | uuid.get_least_significant_bits() & mask
    return str(UUID(int=number)) if number else ""
