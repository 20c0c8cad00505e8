"""Why no broker answers, if TLS is the reason: the clients retry forever and do not say."""

import socket
import ssl
from typing import Any

from unique_users.clients.silence import ANSWER_SECONDS, is_broker
from unique_users.config.schema import Config
from unique_users.errors import BrokerError, UsageError

# With one of these, the client decides what to trust.
_TRUSTED_OTHERWISE = {"ssl_ca_pem", "ssl_ca_certificate_stores", "ssl_truststore_location"}


def explain_silence(config: Config) -> None:
    """Try a TLS handshake with each broker. Raises BrokerError if waiting is in vain, UsageError for a bad file.

    Returns if nobody is there, or if TLS is not the reason.
    """
    secured = uses_tls(config)
    context = trusting_as_configured(config) if secured else _trusting_context()
    if context is None:
        return
    for server in config.bootstrap_servers:
        complaint = _complaint(context, server)
        if secured and complaint:
            raise BrokerError(f"the broker at {server} is not trusted: {complaint}: check the `kafka:` section")
        if not secured and complaint == "":
            raise BrokerError(f"the broker at {server} requires TLS: set kafka.security_protocol to SSL or SASL_SSL")


def uses_tls(config: Config) -> bool:
    """Whether the client is to speak TLS."""
    return str(_settings(config).get("security_protocol", "PLAINTEXT")).upper().endswith("SSL")


def requires_tls(server: str) -> bool:
    """Whether a broker answers there, and speaks TLS."""
    return _complaint(_trusting_context(), server) == ""


def _settings(config: Config) -> dict[str, Any]:
    return {name.replace(".", "_"): value for name, value in config.kafka.items()}


def trusting_as_configured(config: Config) -> ssl.SSLContext | None:
    """What trusts the same certificates as the client; None if only the client knows. Raises UsageError."""
    settings = _settings(config)
    if _TRUSTED_OTHERWISE & settings.keys():
        return None
    name = next((name for name in ("ssl_cafile", "ssl_ca_location") if settings.get(name)), None)
    try:
        context = ssl.create_default_context(cafile=str(settings[name]) if name else None)
    except OSError as error:  # an ssl.SSLError is one
        raise UsageError(f"kafka.{name}: the file holds no certificates: {error.strerror}") from None
    unchecked = str(settings.get("ssl_check_hostname", True)).lower() == "false"
    context.check_hostname = not unchecked and settings.get("ssl_endpoint_identification_algorithm") != "none"
    if str(settings.get("enable_ssl_certificate_verification", True)).lower() == "false":
        return _trusting_context()
    return context


def _trusting_context() -> ssl.SSLContext:
    """Only to find out whether a server speaks TLS; nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _complaint(context: ssl.SSLContext, server: str) -> str | None:
    """What is wrong with the broker's TLS: empty if nothing is, None if nobody answers."""
    host, _, port = server.rpartition(":")
    name = host.strip("[]")
    try:
        with (
            socket.create_connection((name, int(port)), ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except (ssl.SSLEOFError, ConnectionError):
        # A listener without TLS does this, and so does a broker that is shutting down.
        return "it does not speak TLS" if is_broker(name, int(port)) else None
    except ssl.SSLError:
        return "it does not speak TLS"
    except OSError:
        return None
