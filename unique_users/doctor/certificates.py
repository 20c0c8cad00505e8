"""TLS: whether a broker's certificate is trusted, is for its name, and for how long."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

from unique_users.clients.silence import ANSWER_SECONDS
from unique_users.clients.tls import trusting_as_configured, uses_tls
from unique_users.doctor.examination import TRUST, Examination
from unique_users.doctor.finding import Finding, ok, unknown, warning, wrong

NAME = "tls"
SOON_DAYS = 14
_DAY = 86_400


def look(examination: Examination) -> Iterator[Finding]:
    """Shake hands with each broker that answers; nothing is sent to it."""
    config = examination.config
    if not uses_tls(config):
        examination.provided.add(TRUST)
        yield ok(NAME, "not used")
        return
    context = trusting_as_configured(config)
    if context is None or not examination.answering:
        examination.provided.add(TRUST)
        yield unknown(NAME, "only the client knows what to trust, or how to reach the brokers")
        return
    for server in examination.answering:
        found = _shaken(context, server, examination.clock.wall())
        if found.status != "wrong":
            examination.provided.add(TRUST)
        yield found


def _shaken(context: ssl.SSLContext, server: str, now: float) -> Finding:
    host, _, port = server.rpartition(":")
    name = host.strip("[]")
    try:
        with (
            socket.create_connection((name, int(port)), ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            certificate = secured.getpeercert()
    except ssl.SSLCertVerificationError as error:
        return wrong(NAME, f"{server}: its certificate is not accepted: {error.verify_message}", _advice(error))
    except TimeoutError:
        says = f"{server}: it accepts connections, but completes no TLS handshake within {ANSWER_SECONDS:g} s"
        return wrong(NAME, says, "the broker is frozen or overloaded: look at its machine and its log, and restart it")
    except (ssl.SSLError, ConnectionError):
        return wrong(NAME, f"{server}: it does not speak TLS", "set kafka.security_protocol to what that port speaks")
    except OSError as error:
        return wrong(NAME, f"{server}: no connection: {error.strerror or type(error).__name__}")
    return _about(server, certificate, now)


def _about(server: str, certificate: object, now: float) -> Finding:
    if not isinstance(certificate, dict) or not certificate.get("notAfter"):
        return ok(NAME, f"{server} speaks TLS; its certificate is not checked, as configured")
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    day = datetime.fromtimestamp(ends, UTC).date().isoformat()
    days = int((ends - now) // _DAY)
    if days < SOON_DAYS:
        says = f"{server}: its certificate expires on {day}, in {days} days"
        return warning(NAME, says, "renew it: once it has expired, nobody can connect")
    return ok(NAME, f"{server} is trusted; its certificate is for that name and valid until {day}")


def _advice(error: ssl.SSLCertVerificationError) -> str:
    said = str(error.verify_message).lower()
    if "expired" in said:
        return "renew the broker's certificate; check this machine's date"
    if "not yet valid" in said:
        return "check the date of this machine"
    if "mismatch" in said or "not valid for" in said:
        return "use a name that the certificate has in kafka.bootstrap_servers, or give the broker one for this name"
    return "set kafka.ssl_cafile to the certificate of the authority that signed the broker's"
