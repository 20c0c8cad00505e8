"""Why no broker answers, found out by asking: the clients retry forever without saying why."""

import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import closing
from threading import Thread

from msgspec.structs import replace

from unique_users.clients.protocols import Admin
from unique_users.config.schema import Config
from unique_users.errors import BrokerError, UsageError
from unique_users.runtime.heartbeat import alive
from unique_users.runtime.signals import SLICE_SECONDS, Stop

ANSWER_SECONDS = 2.0
SHOWN_MAX = 3  # addresses in one line
# ApiVersions, which every broker answers before a login: length, API, version, correlation id, no client id. A web
# server takes it for a bad request of one line, and answers it, too.
_HELLO = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_CORRELATION = _HELLO[8:12]
WAY_OUT = "set the broker's advertised.listeners to an address that this machine can reach"


def why_silent(config: Config, new_admin: Callable[[Config], Admin]) -> str | None:
    """The reason for a wait, which names no setting's value except addresses; None if it lies elsewhere.

    1. try the name and port of each bootstrap server, 2. ask one that answers where it sends its clients, 3. try those.
    """
    settings = {name.replace(".", "_"): value for name, value in config.kafka.items()}
    if settings.get("proxy_url"):
        return None  # this machine cannot reach what the proxy reaches
    protocol = str(settings.get("security_protocol", "PLAINTEXT")).upper()
    plain = not protocol.endswith("SSL")
    servers = config.bootstrap_servers
    complaints = _complaints(servers, plain=plain)
    if len(complaints) == len(servers):
        return _listed(complaints) if len(servers) > 1 else complaints[servers[0]]
    sent_to = _sent_to(config, new_admin)
    if sent_to is None:
        return _about_the_login(config, protocol, new_admin)
    unreached = _complaints([address for address in sent_to if address not in servers], plain=plain)
    return f"it answers, but sends its clients to {_listed(unreached)}: {WAY_OUT}" if unreached else None


def _sent_to(config: Config, new_admin: Callable[[Config], Admin]) -> list[str] | None:
    """Where the brokers send their clients; None if they do not say."""
    try:
        with closing(new_admin(config)) as admin:
            return admin.brokers()
    except (BrokerError, UsageError):
        return None


CERTIFICATES = {"ssl_certfile", "ssl_certificate_location", "ssl_certificate_pem", "ssl_keystore_location"}


def _about_the_login(config: Config, protocol: str, new_admin: Callable[[Config], Admin]) -> str | None:
    """What may be wrong if a broker is up but does not talk to us."""
    if protocol == "SSL":
        given = {name.replace(".", "_") for name in config.kafka} & CERTIFICATES
        wants = "does not accept the certificate of kafka.ssl_certfile" if given else "wants a certificate"
        fix = "another one" if given else "kafka.ssl_certfile and kafka.ssl_keyfile"
        return f"it is up, but either {wants}: set {fix}; or a login: set kafka.security_protocol to SASL_SSL"
    if not protocol.startswith("SASL_"):
        return f"it is up, but does not answer without a login: set kafka.security_protocol to SASL_{protocol}"
    without = {name: value for name, value in config.kafka.items() if not name.startswith("sasl")}
    names = {"security_protocol", "security.protocol"} & without.keys()
    anonymous = replace(config, kafka=without | dict.fromkeys(names, protocol.removeprefix("SASL_")))
    if _sent_to(anonymous, new_admin) is None:
        return None
    return f"it accepts only clients without a login: set kafka.security_protocol to {protocol.removeprefix('SASL_')}"


def found_out(ask: Callable[[], str | None], stop: Stop) -> str | None:
    """The answer, or None if a stop is requested before it arrives: looking up a name may take long."""
    answers: list[str | None] = []
    thread = Thread(target=lambda: answers.append(ask()), name="find out why no broker answers", daemon=True)
    thread.start()
    while thread.is_alive() and not stop.requested:
        alive()
        thread.join(SLICE_SECONDS)
    return answers[0] if answers else None


def is_broker(name: str, port: int) -> bool:
    """Whether a broker answers there without TLS; nothing of the configuration is sent to it."""
    return why_unreachable(name, port, plain=True) is None


def _complaints(addresses: Iterable[str], *, plain: bool) -> dict[str, str]:
    """What is wrong with each of these addresses; those where a broker may be listening are left out."""
    found = {}
    for address in addresses:
        host, _, port = address.rpartition(":")
        if complaint := why_unreachable(host.strip("[]"), int(port), plain=plain):
            found[address] = complaint
    return found


def _listed(complaints: dict[str, str]) -> str:
    shown = [f"{address} ({complaint})" for address, complaint in list(complaints.items())[:SHOWN_MAX]]
    more = f" and {len(complaints) - SHOWN_MAX} more" if len(complaints) > SHOWN_MAX else ""
    return ", ".join(shown) + more


def why_unreachable(name: str, port: int, *, plain: bool) -> str | None:
    """Why no broker can be reached there; None if there may be one. Behind TLS, only a client can find out more."""
    try:
        connection = socket.create_connection((name, port), ANSWER_SECONDS)
    except (socket.gaierror, UnicodeError):
        return f"the name {name!r} cannot be resolved here"
    except ConnectionRefusedError:
        return "connection refused: nothing listens there"
    except TimeoutError:
        return f"no connection within {ANSWER_SECONDS:g} s: a firewall, or a machine that is off"
    except OSError as error:
        return f"no connection: {error.strerror or type(error).__name__}"
    with connection:
        return _answer_is_wrong(connection) if plain else None


def _answer_is_wrong(connection: socket.socket) -> str | None:
    try:
        connection.sendall(_HELLO)
        answer = b""
        while len(answer) < len(_HELLO) and (more := connection.recv(len(_HELLO))):
            answer += more
    except TimeoutError:
        return f"it accepts connections, but answers no request within {ANSWER_SECONDS:g} s"
    except OSError:
        answer = b""
    if answer[4:8] == _CORRELATION:
        return None
    if not answer:
        return "it accepts connections and closes them at once: no broker is behind that port, or it is just starting"
    return "what answers there is not Kafka" + (", but a web server" if answer[:1] in {b"H", b"<"} else "")
