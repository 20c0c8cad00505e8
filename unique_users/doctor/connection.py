"""The login: whether the cluster talks to this user."""

from collections.abc import Iterator

from unique_users.clients.connect import reason_for_silence
from unique_users.doctor.examination import CONNECTION, Examination
from unique_users.doctor.finding import Finding, from_error, ok, wrong
from unique_users.errors import BrokerAwayError, BrokerError, UsageError
from unique_users.runtime.signals import Stop

NAME = "connection"


def look(examination: Examination) -> Iterator[Finding]:
    """Connect as the scripts do."""
    config = examination.config
    try:
        admin = examination.admin
    except BrokerAwayError as error:
        reason = reason_for_silence(config, Stop())
        says, _, do = (reason or str(error)).partition(": set ")
        yield wrong(NAME, says, f"set {do}" if do else "look at the broker's log")
        return
    except (BrokerError, UsageError) as error:
        yield from_error(NAME, error)
        return
    examination.provided.add(CONNECTION)
    settings = {name.replace(".", "_"): value for name, value in config.kafka.items()}
    release = admin.version()
    kafka = f"Kafka {release}" if release else f"Kafka, whose version {config.client} does not tell"
    login = "logged in" if settings.get("sasl_mechanism") else "without a login"
    yield ok(NAME, f"{kafka}, {login}")
