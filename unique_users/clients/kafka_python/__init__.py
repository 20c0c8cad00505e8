"""kafka-python behind the protocols. The only package that imports it."""

import logging

from unique_users.clients.kafka_python.admin import KafkaPythonAdmin
from unique_users.clients.kafka_python.consumer import KafkaPythonConsumer
from unique_users.clients.kafka_python.internals.broker_refusals import hear_refusals
from unique_users.clients.kafka_python.internals.fetching_ahead import fetch_ahead
from unique_users.clients.kafka_python.internals.joins import finish_joins
from unique_users.clients.kafka_python.internals.poll_waits import wait_less
from unique_users.clients.kafka_python.internals.receiving import receive_much
from unique_users.clients.kafka_python.producer import KafkaPythonProducer
from unique_users.clients.kafka_python.record_lookup import KafkaPythonRecordLookup

# The client logs every attempt to reach a broker; the loops say once what matters.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

fetch_ahead()
wait_less()
receive_much()
hear_refusals()
finish_joins()

make_consumer = KafkaPythonConsumer
make_producer = KafkaPythonProducer
make_admin = KafkaPythonAdmin
make_record_lookup = KafkaPythonRecordLookup
