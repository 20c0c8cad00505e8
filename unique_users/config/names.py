"""What depends on the whole configuration: the prefix of all names, and what paths are relative to."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from unique_users.config.kafka_section import normal
from unique_users.config.places import Places
from unique_users.config.schema import Config, Topics
from unique_users.config.values import TOPIC_NAME_MAX
from unique_users.errors import UsageError

# The settings of both clients that name a file of certificates or keys.
_KAFKA_FILES = {
    *("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"),
    *("ssl_ca_location", "ssl_certificate_location", "ssl_key_location", "ssl_crl_location", "ssl_keystore_location"),
}


def named(config: Config, places: Places) -> Config:
    """With `name` as the prefix of all topics and groups, and as a folder of the state. Raises UsageError."""
    name = config.name
    if not name:
        return config
    used = [each for each in Topics.__struct_fields__ if getattr(config.topics, each)]
    topics = replace(config.topics, **{each: _topic(config, each, places) for each in used})
    return replace(
        config,
        topics=topics,
        bucketer=replace(config.bucketer, group=f"{name}.{config.bucketer.group}"),
        counter=replace(config.counter, group=f"{name}.{config.counter.group}"),
        state=replace(config.state, directory=f"{config.state.directory}/{name}"),
    )


def _topic(config: Config, which: str, places: Places) -> object:
    topic = getattr(config.topics, which)
    prefixed = f"{config.name}.{topic.name}"
    if len(prefixed) > TOPIC_NAME_MAX:
        said = f"expected a prefix that keeps topic names within {TOPIC_NAME_MAX} characters, got {prefixed!r:.60}"
        raise places.wrong("name", said)
    return replace(topic, name=prefixed)


def check_moved(config: Config, path: str) -> None:
    """Raise UsageError if there is no state beside the file `path`, but one where earlier versions kept it."""
    there, beside = Path(config.state.directory), Path(path).parent
    if there.exists() or beside == Path() or not there.is_relative_to(beside):
        return
    here = there.relative_to(beside)
    if any(here.glob("*.sqlite")):
        raise UsageError(
            f"{path}: state.directory: is relative to this file now: move {str(here)!r} to {str(there)!r}, or name it"
            f" with --set state.directory={here}"
        )


def placed(config: Config, places: Places) -> Config:
    """With paths relative to the working directory; those in a file are relative to it. A leading `~` is the home.

    Raises UsageError for the home of a user who is unknown.
    """
    state = places.directory_of("state.directory") / _at_home("state.directory", config.state.directory, places)
    data = places.directory_of("broker.data") / _at_home("broker.data", config.broker.data, places)
    return replace(
        config,
        state=replace(config.state, directory=str(state)),
        broker=replace(config.broker, data=str(data)),
        producer=replace(config.producer, file=_at_home("producer.file", config.producer.file, places)),
        kafka={
            key: _at_home(f"kafka.{key}", value, places) if normal(key) in _KAFKA_FILES else value
            for key, value in config.kafka.items()
        },
    )


def _at_home(dotted: str, path: Any, places: Places) -> Any:
    """A path with the home directory for its leading `~`."""
    try:
        return str(Path(path).expanduser()) if isinstance(path, str) and path.startswith("~") else path
    except RuntimeError:
        raise places.wrong(dotted, "begins with `~` and no known user: write the full path") from None
