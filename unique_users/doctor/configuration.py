"""Values of the configuration that are allowed, and do not go together."""

from collections.abc import Iterator

from unique_users.clients.protocols import REQUEST_SECONDS
from unique_users.config.schema import Config
from unique_users.doctor.examination import Examination
from unique_users.doctor.finding import Finding, ok, warning, wrong

NAME = "config"
_LOGIN = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "sasl_username", "sasl_password")
_CERTIFICATES = ("ssl_cafile", "ssl_ca_location", "ssl_certfile", "ssl_keyfile", "ssl_ca_pem")


def look(examination: Examination) -> Iterator[Finding]:
    """Look at the configuration, which could be loaded."""
    found = [*_groups(examination.config), *_unused(examination.config), *_times(examination.config)]
    found += _copies(examination.config)
    yield from found or [ok(NAME, "every key is known, and the values go together")]


def _groups(config: Config) -> Iterator[Finding]:
    if config.bucketer.group == config.counter.group:
        yield wrong(
            NAME,
            f"bucketer.group and counter.group are both {config.counter.group!r}: they take each other's partitions",
            "give each a group of its own",
        )


def _unused(config: Config) -> Iterator[Finding]:
    settings = {name.replace(".", "_"): value for name, value in config.kafka.items()}
    protocol = str(settings.get("security_protocol", "PLAINTEXT")).upper()
    for names, part, what in ((_LOGIN, "SASL", "no login is sent"), (_CERTIFICATES, "SSL", "nothing is encrypted")):
        given = [name for name in names if settings.get(name)]
        if given and part not in (protocol if part == "SASL" else protocol.removeprefix("SASL_")):
            says = f"kafka.{given[0]} is set, but kafka.security_protocol is {protocol}: {what}"
            yield warning(NAME, says, f"set kafka.security_protocol to one with {part}, or remove those settings")
    if "SASL" in protocol and not settings.get("sasl_mechanism"):
        says = f"kafka.security_protocol is {protocol}, and kafka.sasl_mechanism is not set"
        yield warning(NAME, says, "set it to what the broker offers, such as SCRAM-SHA-512")


def _times(config: Config) -> Iterator[Finding]:
    if config.health.stuck_seconds <= REQUEST_SECONDS:
        says = f"health.stuck_seconds is {config.health.stuck_seconds:g}: one answer may take {REQUEST_SECONDS:g} s"
        yield warning(NAME, f"{says}, and a process that waits for it would end itself", "set it to 60")
    if not config.counter.retention_seconds:
        says = "counter.retention_seconds is 0: the state grows forever"
        yield warning(NAME, says, "keep an eye on the disk, or set how long a minute may change")


def _copies(config: Config) -> Iterator[Finding]:
    topics = config.topics
    for topic in (topics.feed, topics.bucketed, topics.counts, topics.rejected):
        needed = int(topic.settings.get("min.insync.replicas", 1))
        if 0 < topic.replication < needed:
            says = (
                f"topic {topic.name!r} is configured with {topic.replication} copies and min.insync.replicas={needed}"
            )
            yield wrong(NAME, f"{says}: nothing could be written", "raise `replication` or lower min.insync.replicas")
