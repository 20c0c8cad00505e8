# ruff: noqa: SLF001  # kafka-python offers no other way in: its release is pinned, and tests/integration holds it to this
"""Have kafka-python 3.0.12 say why a broker refuses a login; without this it retries forever.

1. A broker's last words before it hangs up are discarded if both arrive in one read: here the end waits for the next.
2. A login that fails closes the connection, and a later request for one is told nothing: here it is told why.
"""

from typing import Any

from kafka.errors import SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

_REFUSALS = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError)


def hear_refusals() -> None:
    """Patch the client's classes. Call it once."""
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        transport._sock_recv = _data_first(transport._sock_recv)
    KafkaConnectionManager._connect = _noting_refusals(KafkaConnectionManager._connect)


def _data_first(receive: Any) -> Any:
    def data_first(transport: Any) -> Any:
        data, error = receive(transport)
        return data, None if data else error

    return data_first


def _noting_refusals(connect: Any) -> Any:
    async def noting_refusals(manager: Any, node: Any, connection: Any, **settings: Any) -> None:
        await connect(manager, node, connection, **settings)
        refusal = connection.init_future.exception
        if isinstance(refusal, _REFUSALS):
            manager._auth_failures[node.node_id] = refusal

    return noting_refusals
