"""Hands tokens to kafka-python when it logs in to a broker."""

from contextlib import suppress

from kafka.net.sasl.oauth import AbstractTokenProvider

from unique_users.clients.oauth import Tokens
from unique_users.errors import UniqueUsersError


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc] # the client has no types
    """The tokens of one user, as the client asks for them."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens
        self._last = tokens.token()

    def token(self) -> str:
        """A valid token, or the last one, which the broker refuses: an error in here would end the client's thread."""
        with suppress(UniqueUsersError):
            self._last = self._tokens.token()
        return self._last
