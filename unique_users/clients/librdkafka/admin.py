"""The admin client of librdkafka."""
# ruff: noqa: SLF001  # librdkafka's names of errors that no broker sent begin with an underscore

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import Any

import confluent_kafka
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ListOffsetsResultInfo, NewTopic, OffsetSpec

from unique_users.clients.librdkafka.descriptions import details_of, group_of, state_of
from unique_users.clients.librdkafka.errors import (
    BOOTSTRAP_SECONDS,
    OUTDATED,
    REFUSED,
    Refusal,
    code_of,
    explained,
    explained_error,
    reason,
)
from unique_users.clients.librdkafka.positions import position_of
from unique_users.clients.librdkafka.settings import SLICE_SECONDS, as_text, built, settings_of
from unique_users.clients.protocols import REQUEST_SECONDS, GroupDetails, Position, TopicDetails, TopicState, address
from unique_users.clients.refused_topics import creation_refused
from unique_users.config.schema import Config, Topic
from unique_users.errors import BrokerAwayError, BrokerError

ANSWER_SECONDS = 1.0  # for one of the attempts that a request has time for


class LibrdkafkaAdmin:
    """See protocols.Admin."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._refusal = Refusal(config)
        self._asking: dict[str, Any] = {}  # a consumer for each group that was asked about
        self._admin: Any = self._connected()

    def _connected(self) -> Any:
        settings = settings_of(self._config, {}) | {"error_cb": self._refusal}
        admin = built(self._config, AdminClient, settings)
        self._refusal.connect(admin)
        return admin

    def describe(self, name: str) -> TopicState | None:
        topic = self._described(name)
        return None if topic is None else state_of(topic)

    def _described(self, name: str, **what: bool) -> Any:
        self._admin.poll(0)  # delivers the errors reported by callback, which are then forgotten
        asked = confluent_kafka.TopicCollection([name])
        try:
            with explained(self._config):
                (future,) = self._admin.describe_topics(asked, request_timeout=REQUEST_SECONDS, **what).values()
                return future.result()
        except BrokerAwayError as error:
            if code_of(error) in _NO_TOPIC:
                return None
            raise

    def details(self, name: str) -> TopicDetails | None:
        topic = self._described(name, include_authorized_operations=True)
        return None if topic is None else details_of(topic)

    def group_details(self, group: str) -> GroupDetails:
        with explained(self._config):
            asked = {"include_authorized_operations": True, "request_timeout": REQUEST_SECONDS}
            (future,) = self._admin.describe_consumer_groups([group], **asked).values()
            return group_of(future.result())

    def version(self) -> str:
        return ""  # librdkafka knows which requests a broker takes, and keeps it to itself

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
                    raise creation_refused(topic, error.args[0].code(), reason(error.args[0])) from None
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
                raise BrokerAwayError(f"topic {name!r} was created, but it has no leaders yet")
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
        if self.describe(topic) is None:
            return 0
        committed = self.committed(group, topic)
        return sum(
            end - committed.get(partition, Position(0)).offset
            for partition, end in self.high_watermark_offsets(topic).items()
        )

    def committed(self, group: str, topic: str) -> dict[int, Position]:
        state = self.describe(topic)
        if state is None:
            return {}
        asked = [TopicPartition(topic, partition) for partition in range(state.partitions)]
        try:
            answers = self._asked_in_name_of(group, asked)
        except BrokerError:
            self._asking.clear()  # what a client knows of a restored broker may be outdated
            raise
        for answer in answers:
            if answer.error is not None:
                raise explained_error(self._config, answer.error)
        found = {answer.partition: position_of(answer) for answer in answers}
        return {partition: at for partition, at in found.items() if at is not None}

    def _asked_in_name_of(self, group: str, asked: list[TopicPartition]) -> list[TopicPartition]:
        """What a group has committed. A missing right is reported once, by callback, and looks like silence."""
        member = self._member_of(group)
        deadline = monotonic() + REQUEST_SECONDS
        while True:
            try:
                with explained(self._config):
                    answers: list[TopicPartition] = member.committed(asked, timeout=ANSWER_SECONDS)
                    return answers
            except BrokerAwayError:
                told = [
                    error for message in member.consume(10, SLICE_SECONDS) if (error := message.error()) is not None
                ]
                if refusals := [error for error in told if error.code() in REFUSED]:
                    raise explained_error(self._config, refusals[0]) from None
                if monotonic() >= deadline:
                    raise

    def _member_of(self, group: str) -> Any:
        """A consumer that asks in the name of a group, and never joins it.

        librdkafka's own admin client crashes the process if the group's coordinator is not ready.
        """
        if group not in self._asking:
            settings = settings_of(self._config, {"group.id": group}) | {"error_cb": self._refusal}
            settings = {name: value for name, value in settings.items() if name != "group.instance.id"}
            settings |= {"group.id": group, "enable.auto.commit": False}
            self._asking[group] = built(self._config, confluent_kafka.Consumer, settings)
        return self._asking[group]

    def starts(self, topic: str) -> dict[int, int]:
        return self._bounds(topic, OffsetSpec.earliest())

    def high_watermark_offsets(self, topic: str) -> dict[int, int]:
        return self._bounds(topic, OffsetSpec.latest())

    def stable_ends(self, topic: str) -> dict[int, int]:
        return self._bounds(topic, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)

    def _bounds(
        self, topic: str, which: OffsetSpec, isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, int]:
        state = self.describe(topic)
        if state is None:
            raise BrokerAwayError(f"the broker has no topic {topic!r}")
        answers = self._list_offsets(topic, dict.fromkeys(range(state.partitions), which), isolation_level)
        return {partition: answer.offset for partition, answer in answers.items()}

    def newest_ms(self, topic: str) -> dict[int, int]:
        ends = self.high_watermark_offsets(topic)
        try:
            answers = self._list_offsets(topic, dict.fromkeys(ends, OffsetSpec.max_timestamp()))
        except BrokerError as error:
            if code_of(error) == KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT:
                return {}  # records of Kafka 0.9 have no times
            raise
        newest = {partition: answer.timestamp for partition, answer in answers.items() if answer.timestamp >= 0}
        # A broker before 3.0 takes the question for one about a time long ago, and librdkafka allows it: the answer is
        # then the oldest record, even if there are newer ones.
        after = {partition: OffsetSpec.for_timestamp(at + 1) for partition, at in newest.items()}
        newer = self._list_offsets(topic, after)
        return {} if any(0 <= answer.offset < ends[partition] for partition, answer in newer.items()) else newest

    def _list_offsets(
        self,
        topic: str,
        asked: Mapping[int, OffsetSpec],
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, ListOffsetsResultInfo]:
        if not asked:
            return {}
        specs = {TopicPartition(topic, partition): spec for partition, spec in asked.items()}
        try:
            with explained(self._config):
                answers = self._admin.list_offsets(
                    specs, isolation_level=isolation_level, request_timeout=REQUEST_SECONDS
                )
                return {tp.partition: answer.result() for tp, answer in answers.items()}
        except BrokerAwayError as error:
            if code_of(error) in OUTDATED:
                self._admin = self._connected()
            raise

    def brokers(self) -> list[str]:
        with explained(self._config):
            known = self._admin.list_topics("__consumer_offsets", timeout=BOOTSTRAP_SECONDS).brokers
        return [address(broker.host, broker.port) for broker in known.values()]

    def close(self) -> None:
        self._admin = None  # the last reference: destroying it disconnects
        self._asking.clear()


_NO_TOPIC = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
_CREATION_REFUSED = {
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError._INVALID_ARG,
}
