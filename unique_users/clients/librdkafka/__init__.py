"""librdkafka (the package confluent-kafka) behind the protocols. The only package that imports it."""

from unique_users.clients.librdkafka.admin import LibrdkafkaAdmin
from unique_users.clients.librdkafka.consumer import LibrdkafkaConsumer
from unique_users.clients.librdkafka.producer import LibrdkafkaProducer
from unique_users.clients.librdkafka.record_lookup import LibrdkafkaRecordLookup

make_consumer = LibrdkafkaConsumer
make_producer = LibrdkafkaProducer
make_admin = LibrdkafkaAdmin
make_record_lookup = LibrdkafkaRecordLookup
