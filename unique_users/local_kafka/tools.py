"""Kafka's own tools, run as foreground processes that know where the broker is."""

import subprocess
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from unique_users.local_kafka.errors import UsageError
from unique_users.local_kafka.jars import fetch_jars, java_command, java_environment

TOOL_HEAP = "512m"

# The class of each tool in Kafka 4 and in 2.4. A version without the class lacks the tool.
TOOLS: dict[str, tuple[str, ...]] = {
    "kafka-acls": ("org.apache.kafka.tools.AclCommand", "kafka.admin.AclCommand"),
    "kafka-broker-api-versions": (
        "org.apache.kafka.tools.BrokerApiVersionsCommand",
        "kafka.admin.BrokerApiVersionsCommand",
    ),
    "kafka-client-metrics": ("org.apache.kafka.tools.ClientMetricsCommand",),
    "kafka-cluster": ("org.apache.kafka.tools.ClusterTool",),
    "kafka-configs": ("kafka.admin.ConfigCommand",),
    "kafka-console-consumer": (
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "kafka.tools.ConsoleConsumer",
    ),
    "kafka-console-producer": ("org.apache.kafka.tools.ConsoleProducer", "kafka.tools.ConsoleProducer"),
    "kafka-console-share-consumer": ("org.apache.kafka.tools.consumer.ConsoleShareConsumer",),
    "kafka-consumer-groups": (
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "kafka.admin.ConsumerGroupCommand",
    ),
    "kafka-consumer-perf-test": (
        "org.apache.kafka.tools.ConsumerPerformance",
        "kafka.tools.ConsumerPerformance",
    ),
    "kafka-delegation-tokens": (
        "org.apache.kafka.tools.DelegationTokenCommand",
        "kafka.admin.DelegationTokenCommand",
    ),
    "kafka-delete-records": (
        "org.apache.kafka.tools.DeleteRecordsCommand",
        "kafka.admin.DeleteRecordsCommand",
    ),
    "kafka-dump-log": ("org.apache.kafka.tools.DumpLogSegments", "kafka.tools.DumpLogSegments"),
    "kafka-features": ("org.apache.kafka.tools.FeatureCommand",),
    "kafka-get-offsets": ("org.apache.kafka.tools.GetOffsetShell", "kafka.tools.GetOffsetShell"),
    "kafka-groups": ("org.apache.kafka.tools.GroupsCommand",),
    "kafka-leader-election": (
        "org.apache.kafka.tools.LeaderElectionCommand",
        "kafka.admin.LeaderElectionCommand",
    ),
    "kafka-log-dirs": ("org.apache.kafka.tools.LogDirsCommand", "kafka.admin.LogDirsCommand"),
    "kafka-metadata-quorum": ("org.apache.kafka.tools.MetadataQuorumCommand",),
    "kafka-producer-perf-test": ("org.apache.kafka.tools.ProducerPerformance",),
    "kafka-reassign-partitions": (
        "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
        "kafka.admin.ReassignPartitionsCommand",
    ),
    "kafka-share-groups": ("org.apache.kafka.tools.consumer.group.ShareGroupCommand",),
    "kafka-storage": ("kafka.tools.StorageTool",),
    "kafka-streams-groups": ("org.apache.kafka.tools.streams.StreamsGroupCommand",),
    "kafka-topics": ("org.apache.kafka.tools.TopicCommand", "kafka.admin.TopicCommand"),
    "kafka-transactions": ("org.apache.kafka.tools.TransactionsCommand",),
    "kafka-verifiable-consumer": ("org.apache.kafka.tools.VerifiableConsumer",),
    "kafka-verifiable-producer": ("org.apache.kafka.tools.VerifiableProducer",),
}

# The option for the broker's address, if it is not `--bootstrap-server`; None: the tool reads files.
_ADDRESS_OPTIONS: dict[str, str | None] = {
    "kafka.tools.ConsoleProducer": "--broker-list",
    "kafka.tools.ConsumerPerformance": "--broker-list",
    "kafka.tools.GetOffsetShell": "--broker-list",
    "kafka.tools.DumpLogSegments": None,
    "kafka.tools.StorageTool": None,
    "org.apache.kafka.tools.DumpLogSegments": None,
}
# For this tool, the address is an option of its second word.
_ADDRESS_LAST = {"org.apache.kafka.tools.ClusterTool"}
# These move as many records as they are given; the other tools send one request.
_LONG_RUNNING = ("kafka-console", "kafka-producer-perf", "kafka-consumer-perf", "kafka-verifiable", "kafka-dump-log")
# With one of these among its arguments, the tool knows where to connect, or connects nowhere.
_ADDRESS_GIVEN = (
    "--bootstrap-server",
    "--bootstrap-controller",
    "--broker-list",
    "--zookeeper",
    "--authorizer-properties",
    "bootstrap.servers",
    "--help",
    "-h",
    "-b",
    "-C",
    "--version",
)

_SETTINGS_GIVEN = ("--command-config", "--config", "--help", "-h", "--version")


def tool(
    version: str,
    name: str,
    arguments: Sequence[str],
    bootstrap_servers: str,
    client_settings: Path | None = None,
    stop_requested: Callable[[], bool] = bool,
) -> int:
    """Run one of Kafka's own tools on this process's standard streams and return its exit code.

    The broker's address, and the file of `client_settings`, are added if the tool takes them and `arguments` name none.
    Returns 0 if it ended because a stop was requested. Raises UsageError for a tool that this version lacks,
    LocalKafkaError if jars are missing.
    """
    if name not in TOOLS:
        raise _unknown(version, name, TOOLS)
    jars = fetch_jars(version)
    classes = _classes(jars)
    main_class = next((candidate for candidate in TOOLS[name] if candidate in classes), None)
    if main_class is None:
        raise _unknown(version, name, (tool for tool, names in TOOLS.items() if classes.intersection(names)))
    addressed = with_settings(main_class, with_address(main_class, arguments, bootstrap_servers), client_settings)
    quick = not name.startswith(_LONG_RUNNING)
    command = java_command(jars, main_class, addressed, TOOL_HEAP, quick=quick)
    process = subprocess.Popen(command, env=java_environment())  # noqa: S603 - a class of TOOLS, no shell
    while True:
        try:
            code = process.wait(0.5)
        except subprocess.TimeoutExpired:
            if stop_requested():
                process.terminate()
        else:
            return 0 if stop_requested() else code


def with_address(main_class: str, arguments: Sequence[str], bootstrap_servers: str) -> list[str]:
    """Return a tool's `arguments`, with the broker's address added if `main_class` takes one and they have none."""
    option = _ADDRESS_OPTIONS.get(main_class, "--bootstrap-server")
    if option is None or any(argument.partition("=")[0] in _ADDRESS_GIVEN for argument in arguments):
        return list(arguments)
    address = [option, bootstrap_servers]
    return [*arguments, *address] if main_class in _ADDRESS_LAST else [*address, *arguments]


def with_settings(main_class: str, arguments: Sequence[str], client_settings: Path | None) -> list[str]:
    """Return a tool's `arguments`, with the `client_settings` file if `main_class` takes it and they have none."""
    takes_none = _ADDRESS_OPTIONS.get(main_class, "") is None
    if client_settings is None or takes_none or any(argument.startswith(_SETTINGS_GIVEN) for argument in arguments):
        return list(arguments)
    option = ["--config" if main_class in _ADDRESS_LAST else "--command-config", str(client_settings)]
    # After the words of those tools that have some.
    return [*arguments, *option]


def _unknown(version: str, name: str, known: Iterable[str]) -> UsageError:
    return UsageError(f"Kafka {version} has no tool {name!r}: choose one of {', '.join(sorted(known))}")


def _classes(jars: Iterable[Path]) -> set[str]:
    """Return the names of all classes in Kafka's own jars."""
    return {
        entry.removesuffix(".class").replace("/", ".")
        for jar in jars
        if jar.name.startswith("kafka")
        for entry in zipfile.ZipFile(jar).namelist()
    }
