"""Names, ports, and where the cluster sends its clients."""

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from unique_users.clients.silence import WAY_OUT, why_unreachable
from unique_users.clients.tls import requires_tls, uses_tls
from unique_users.config.schema import Config
from unique_users.doctor.examination import ANSWER, Examination
from unique_users.doctor.finding import Finding, ok, unknown, wrong

BOOTSTRAP, LISTENERS = "address", "listeners"
_RESOLVE = "correct kafka.bootstrap_servers, or the machine's DNS or hosts file"
_MAY_BE_TLS = ("closes them", "answers no request", "not Kafka")
_ADVICE = {
    "resolved": _RESOLVE,
    "refused": "start the broker (a local one: `unique-users broker start`), or correct kafka.bootstrap_servers",
    "firewall": "correct kafka.bootstrap_servers, or open that port in the firewall",
    "answers no request": "the broker is frozen or overloaded: look at its machine and its log, and restart it",
    "closes them": "look at the broker's log; if it has just been started, try again in a few seconds",
    "not Kafka": "correct kafka.bootstrap_servers",
}


def look_at_bootstrap(examination: Examination) -> Iterator[Finding]:
    """Look each name up, connect, and ask what every broker answers before a login."""
    config = examination.config
    if _proxied(config):
        examination.provided.add(ANSWER)
        yield unknown(BOOTSTRAP, "kafka.proxy_url is set, and only the proxy reaches the brokers")
        return
    for server in config.bootstrap_servers:
        if complaint := _complaint(server, config):
            yield complaint
        else:
            examination.answering.append(server)
            yield ok(BOOTSTRAP, f"{server} answers")
    if examination.answering:
        examination.provided.add(ANSWER)


def _complaint(server: str, config: Config) -> Finding | None:
    host, port = _split(server)
    plain = not uses_tls(config)
    said = why_unreachable(host, port, plain=plain)
    if said is None:
        return None
    if plain and any(part in said for part in _MAY_BE_TLS) and requires_tls(server):
        return wrong(BOOTSTRAP, f"{server}: it requires TLS", "set kafka.security_protocol to SSL or SASL_SSL")
    return wrong(BOOTSTRAP, f"{server}: {said}", _advice(said))


def _advice(said: str) -> str:
    return next((do for part, do in _ADVICE.items() if part in said), _RESOLVE)


def look_at_listeners(examination: Examination) -> Iterator[Finding]:
    """Try the addresses that the cluster names to its clients, which may differ from the configured ones."""
    config = examination.config
    examination.brokers = examination.admin.brokers()
    if _proxied(config):
        yield unknown(LISTENERS, "kafka.proxy_url is set, and only the proxy reaches the brokers")
        return
    loopback_expected = any(_is_loopback(_split(server)[0]) for server in config.bootstrap_servers)
    fine = []
    for address in examination.brokers:
        host, port = _split(address)
        if _is_loopback(host) and not loopback_expected:
            says = f"the cluster sends its clients to {address}, which on each machine is that machine itself"
            yield wrong(LISTENERS, says, f"{WAY_OUT} (in Docker: a listener of its own for clients outside)")
        elif address in config.bootstrap_servers or not (
            said := why_unreachable(host, port, plain=not uses_tls(config))
        ):
            fine.append(address)
        else:
            docker = " (in Docker: a listener of its own for clients outside)" if "resolved" in said else ""
            do = WAY_OUT + docker if "resolved" in said or "firewall" in said else f"look at that broker, or {WAY_OUT}"
            yield wrong(LISTENERS, f"the cluster sends its clients to {address}: {said}", do)
    if fine:
        number = f"{len(examination.brokers)} broker" + ("s" if len(examination.brokers) > 1 else "")
        yield ok(LISTENERS, f"{number}; {', '.join(fine)} can be reached from here")


def _proxied(config: Config) -> bool:
    return any(name.replace(".", "_") == "proxy_url" and value for name, value in config.kafka.items())


def _split(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    return parts.hostname or "", parts.port or 0


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in {"localhost", "localhost.localdomain"}
