"""Translates errors of kafka-python into our own."""

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors as kafka_errors

from unique_users.clients.protocols import FENCED
from unique_users.config.schema import Config
from unique_users.config.secrets import without_values
from unique_users.errors import BrokerAwayError, BrokerError, UsageError

REFUSED = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.AuthorizationError,
)


# From a broker that is stopping, or is new to this client; the client does not count these as temporary.
AWAY = (kafka_errors.BrokerNotAvailableError, kafka_errors.UnknownBrokerIdError)


def _refusal(servers: str, error: Exception, said: str) -> str:
    """A refused client needs another mechanism or password or, once logged in, more rights."""
    fix = "rights" if isinstance(error, kafka_errors.AuthorizationError) else "user and password"
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        fix = "sasl_mechanism"
    return f"the broker at {servers} refuses: {said}: check the {fix} of the `kafka:` section"


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn the client's errors into ours. Never prints a setting: some are secrets."""
    servers = ", ".join(config.bootstrap_servers)
    try:
        yield
    except REFUSED as error:
        raise BrokerError(_refusal(servers, error, without_values(str(error), config.kafka))) from None
    except (
        kafka_errors.KafkaConfigurationError,
        kafka_errors.UnsupportedCodecError,
        AssertionError,
    ) as error:
        message = f"kafka: kafka-python does not accept these settings: {without_values(str(error), config.kafka)}"
        raise UsageError(message) from None
    except kafka_errors.FencedInstanceIdError:
        raise BrokerError(FENCED) from None
    except (kafka_errors.RetriableError, *AWAY) as error:
        message = f"no answer from the broker at {servers} ({type(error).__name__})"
        raise BrokerAwayError(message) from None
    except kafka_errors.KafkaError as error:
        message = (
            f"the broker at {servers} answers with {type(error).__name__}: {without_values(str(error), config.kafka)}"
        )
        raise BrokerError(message) from None
