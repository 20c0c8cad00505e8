# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/contract holds it to this
"""Single records of a topic, each by a fetch of its own.

A kafka-python consumer fetches ahead and moves to other offsets: its result may be older than the question.
"""

from time import monotonic, sleep
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.protocol.consumer import FetchRequest
from kafka.record import MemoryRecords

from unique_users.clients.kafka_python.admin import ConnectedAdmin
from unique_users.clients.kafka_python.errors import explained
from unique_users.clients.kafka_python.internals.column_reading import records_of, time_of
from unique_users.clients.kafka_python.internals.record_format import MAGIC, decode
from unique_users.clients.kafka_python.internals.unpacking import UnreadableError
from unique_users.clients.kafka_python.settings import settings_of
from unique_users.clients.protocols import REQUEST_SECONDS, StoredRecord
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError

FETCH_BYTES = 1  # the broker then sends the batch with the record, whatever its size, and nothing more
FETCH_VERSION_MAX = 12  # later ones name topics by ids
RETRY_SECONDS = 0.1


class KafkaPythonRecordLookup:
    """See protocols.RecordLookup."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._leaders: dict[int, int] = {}
        own = {"request_timeout_ms": int(REQUEST_SECONDS * 1000)}
        with explained(config):
            self._admin = ConnectedAdmin(**settings_of(config, own, KafkaAdminClient.DEFAULT_CONFIG))

    def record_at(self, partition: int, offset: int, timeout_seconds: float) -> StoredRecord | None:
        deadline = monotonic() + timeout_seconds
        while True:
            try:
                with explained(self._config):
                    record: StoredRecord | None = self._admin._manager.run(self._answer, partition, offset, deadline)
                    return record
            except BrokerAwayError:
                self._leaders = {}
                if monotonic() + RETRY_SECONDS >= deadline:
                    raise
            sleep(RETRY_SECONDS)

    async def _answer(self, partition: int, offset: int, deadline: float) -> StoredRecord | None:
        manager = self._admin._manager
        milliseconds = max(0.0, deadline - monotonic()) * 1000
        record: StoredRecord | None = await manager.wait_for(
            manager.call_soon(self._fetch, partition, offset), milliseconds
        )
        return record

    async def _fetch(self, partition: int, offset: int) -> StoredRecord | None:
        place = TopicPartition(self._topic, partition)
        response = await self._admin._manager.send(_request(place, offset), node_id=await self._leader(partition))
        if error := getattr(response, "error_code", 0):
            raise kafka_errors.for_code(error)
        ((answer,),) = (topic.partitions for topic in response.responses)
        error = kafka_errors.for_code(answer.error_code)
        if error is kafka_errors.OffsetOutOfRangeError:
            return None
        if error is not kafka_errors.NoError:
            raise error(str(place))
        if not answer.records and offset < answer.high_watermark:
            raise kafka_errors.OffsetNotAvailableError  # the broker withholds its answers
        return _record(answer.records or b"", offset)

    async def _leader(self, partition: int) -> int:
        """The broker that leads the partition; asked once for the whole topic, until there is a failure."""
        if not self._leaders:
            metadata = await self._admin._get_cluster_metadata([self._topic])
            (topic,) = metadata["topics"]
            if topic["error_code"]:
                raise kafka_errors.for_code(topic["error_code"])(self._topic)
            self._leaders = {at["partition_index"]: at["leader_id"] for at in topic["partitions"]}
        leader = self._leaders.get(partition, -1)
        brokers = self._admin._manager.cluster
        if leader < 0 or brokers.broker_metadata(leader) is None:
            brokers.request_update()
            raise kafka_errors.LeaderNotAvailableError
        return leader

    def close(self) -> None:
        self._admin.close()


def _request(place: TopicPartition, offset: int) -> FetchRequest:
    wanted = FetchRequest.FetchTopic.FetchPartition(
        partition=place.partition, fetch_offset=offset, partition_max_bytes=FETCH_BYTES
    )
    return FetchRequest(
        max_wait_ms=0,
        min_bytes=0,
        max_bytes=FETCH_BYTES,
        topics=[FetchRequest.FetchTopic(topic=place.topic, partitions=[wanted])],
        min_version=4,  # from 3 on a batch comes whole, however large it is
        max_version=FETCH_VERSION_MAX,
    )


def _record(data: bytes, offset: int) -> StoredRecord | None:
    """The record at this offset, in what a broker sends for it: the batch that holds it, or the next one."""
    batch: Any = MemoryRecords(data).next_batch()
    if batch is None:
        return None
    if not batch.validate_crc():
        raise kafka_errors.CorruptRecordError(f"batch at offset {batch.base_offset}")
    if batch.magic != MAGIC:
        found = [StoredRecord(record.offset, -1, record.key, record.value, time_of(record)) for record in batch]
        return next((record for record in found if record.offset == offset), None)
    if batch.is_control_batch:
        return None
    try:
        read = decode(records_of(batch), batch)
    except UnreadableError:
        return None
    if offset not in read.offsets:
        return None
    place = read.offsets.index(offset)
    return StoredRecord(offset, batch.leader_epoch, read.keys[place], read.values[place], read.timestamps_ms[place])
