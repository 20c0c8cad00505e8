"""A tool of Kafka is found, and told where the broker is."""

import pytest

from unique_users.local_kafka.errors import UsageError
from unique_users.local_kafka.tools import tool, with_address


def test_an_unknown_tool_is_a_usage_error_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"has no tool 'kafka-nope': .*kafka-console-producer.*kafka-topics"):
        tool("4.3.1", "kafka-nope", [], "localhost:9092")


@pytest.mark.parametrize(
    ("main_class", "arguments", "expected"),
    [
        ("org.apache.kafka.tools.TopicCommand", ["--list"], ["--bootstrap-server", "a:1", "--list"]),
        ("kafka.tools.ConsoleProducer", ["--topic", "t"], ["--broker-list", "a:1", "--topic", "t"]),
        ("org.apache.kafka.tools.ClusterTool", ["cluster-id"], ["cluster-id", "--bootstrap-server", "a:1"]),
        ("kafka.tools.StorageTool", ["random-uuid"], ["random-uuid"]),
        ("kafka.admin.TopicCommand", ["--list", "--zookeeper", "b:2"], ["--list", "--zookeeper", "b:2"]),
        ("kafka.admin.TopicCommand", ["--bootstrap-server=b:2"], ["--bootstrap-server=b:2"]),
        ("kafka.admin.TopicCommand", ["--help"], ["--help"]),
    ],
)
def test_a_tool_gets_the_brokers_address_when_it_takes_one_and_has_none(
    main_class: str, arguments: list[str], expected: list[str]
) -> None:
    assert with_address(main_class, arguments, "a:1") == expected
