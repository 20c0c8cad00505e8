"""Where the demo runs: a Kafka of its own, or topics of its own. Both are removed at the end, whatever happens."""

import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import asdict

from unique_users.clients.connect import get_admin
from unique_users.config.schema import Config
from unique_users.demo.stop import DemoError, EarlyEnd
from unique_users.errors import BrokerError
from unique_users.local_kafka.broker import LocalKafka, free_port, local_address
from unique_users.local_kafka.pid_file import PidFile

_log = logging.getLogger(__name__)

SETTINGS = ("counter.report_seconds=2", "counter.save_seconds=1", "name=''")


@contextmanager
def kafka_place(config: Config, stop: EarlyEnd) -> Iterator[Sequence[str]]:
    """The settings of a place that nothing else uses: own topics on a cluster, or a broker at one loopback address."""
    # Several addresses mean the cluster there, even a local one.
    here = len(config.bootstrap_servers) == 1 and local_address(config.bootstrap_servers)
    with (
        TemporaryDirectory(prefix="unique-users-demo-") as state,
        _own_kafka(config, stop) if here else _own_topics(config) as settings,
    ):
        yield [*settings, f"state.directory={state}", *SETTINGS]


@contextmanager
def _own_kafka(config: Config, stop: EarlyEnd) -> Iterator[Sequence[str]]:
    kafka = LocalKafka(config.broker.version, _fresh_directory(config), free_port(), host="127.0.0.1")
    _log.info(f"starting Kafka {kafka.version} at {kafka.bootstrap_servers}, its data and logs are in {kafka.data}")
    try:
        with stop.promptly():
            kafka.start()
        yield [
            f"kafka.bootstrap_servers={kafka.bootstrap_servers}",
            *(f"topics.{topic}.replication=1" for topic in _used(config)),
        ]
    finally:
        kafka.stop()


def _used(config: Config) -> list[str]:
    return [name for name, topic in asdict(config.topics).items() if topic]


def _fresh_directory(config: Config) -> Path:
    directory = Path(config.broker.data) / "demo"
    owner = PidFile.read(directory / "kafka.pid")
    if owner and owner.process(str(directory.absolute() / "kafka.properties")):
        message = (
            f"the Kafka of another demo runs in {str(directory)!r} (process {owner.pid}): wait until it ends, or, if it"
            f" was left behind, `unique-users broker stop --set broker.data={directory}`"
        )
        raise DemoError(message)
    try:
        directory.parent.mkdir(exist_ok=True)
        if directory.exists():
            shutil.rmtree(directory)
    except OSError as error:
        message = f"broker.data: cannot use {str(error.filename)!r}: {error.strerror}: name another with --set"
        raise DemoError(message) from None
    return directory


@contextmanager
def _own_topics(config: Config) -> Iterator[Sequence[str]]:
    prefix = f"demo-{secrets.token_hex(4)}"
    names = {topic: f"{prefix}-{topic}" for topic in _used(config)}
    _log.info(f"using {', '.join(config.bootstrap_servers)} with the topics {prefix}-*, which are deleted at the end")
    try:
        yield [
            *(f"topics.{topic}.name={name}" for topic, name in names.items()),
            *(f"{group}.group={prefix}-{group}" for group in ("bucketer", "counter")),
        ]
    finally:
        try:
            _delete_topics(config, list(names.values()))
        except BrokerError as error:
            _log.info(f"the topics {prefix}-* could not be deleted: {error}")


def _delete_topics(config: Config, names: Sequence[str]) -> None:
    admin = get_admin(config)
    try:
        admin.delete(names)
    finally:
        admin.close()
