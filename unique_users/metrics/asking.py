"""Asks a process on this machine for its health, over the port that it serves its metrics at."""

from http.client import HTTPConnection, HTTPException
from ipaddress import ip_address
from typing import NamedTuple

from unique_users.config.schema import Metrics
from unique_users.errors import UsageError

ANSWER_SECONDS = 4.0
ANSWER_BYTES_MAX = 1_024
OK = 200


class Answer(NamedTuple):
    """Whether all is well, and one line that says so or why not."""

    well: bool
    said: str


def asked(settings: Metrics, path: str) -> Answer:
    """What the process answers at `/healthz` or `/readyz`; no answer is not well. Raises UsageError without a port."""
    if not settings.port:
        raise UsageError(
            "metrics.port: only a process with a port can be asked: give the one that it was started with, for example"
            " --set metrics.port=9402"
        )
    host = _reachable(settings.host)
    connection = HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        return Answer(well=False, said=f"no answer at {host} port {settings.port}: {why}")
    finally:
        connection.close()
    return Answer(answer.status == OK, said)


def _reachable(host: str) -> str:
    """The address to ask at: who listens at all addresses is asked at loopback."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    loopback = "127.0.0.1" if address.version == 4 else "::1"  # noqa: PLR2004
    return loopback if address.is_unspecified else host
