"""OAUTHBEARER by client credentials: fetches a token, and says why there is none. The clients retry without saying.

Both clients take librdkafka's names: `sasl_oauthbearer_method: oidc`, `sasl_oauthbearer_token_endpoint_url`,
`…_client_id`, `…_client_secret`, and if needed `…_scope` and `https_ca_location`. librdkafka fetches its tokens itself;
kafka-python gets them from here.
"""

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from unique_users.errors import BrokerAwayError, BrokerError, UsageError

MECHANISM = "OAUTHBEARER"
PREFIX = "sasl_oauthbearer_"
OURS = {f"{PREFIX}{name}" for name in ("method", "token_endpoint_url", "client_id", "client_secret", "scope")}
OURS |= {"https_ca_location"}
_NEEDED = ("token_endpoint_url", "client_id", "client_secret")
ANSWER_SECONDS, ANSWER_BYTES_MAX = 5.0, 1_048_576
RENEWED_AT = 0.8  # of a token's life, as librdkafka does
LIFE_SECONDS = 300.0  # of a token, if the server does not say


class _StaysThere(HTTPRedirectHandler):
    """Follows to no other address: the secret would go there, too."""

    def redirect_request(self, *_: Any) -> None:
        """Have it be an error."""


class Tokens:
    """The tokens of one user, each used until most of its life is over. For any thread."""

    def __init__(self, settings: Mapping[str, Any], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = {name: str(settings.get(f"{PREFIX}{name}") or "") for name in (*_NEEDED, "scope")}
        self._ca = settings.get("https_ca_location")
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._token = ""
        self._renewed_at = self._ends_at = 0.0

    def token(self) -> str:
        """A token that is valid. Raises BrokerError if the server refuses, BrokerAwayError if it does not answer."""
        with self._lock:
            now = self._monotonic()
            if now >= self._renewed_at:
                try:
                    self._token, life = self._fetched()
                except BrokerAwayError:
                    if now >= self._ends_at:
                        raise
                else:
                    self._renewed_at, self._ends_at = now + RENEWED_AT * life, now + life
            return self._token

    def _fetched(self) -> tuple[str, float]:
        url, user, secret, scope = (self._settings[name] for name in (*_NEEDED, "scope"))
        form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        login = base64.b64encode(f"{quote(user, '')}:{quote(secret, '')}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Accept": "application/json"}
        request = Request(url, urlencode(form).encode(), headers)  # noqa: S310 - checked to be http or https
        opener = build_opener(HTTPSHandler(context=self._trusted(url)), _StaysThere)
        try:
            with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                told = json.loads(answer.read(ANSWER_BYTES_MAX))
            token, life = str(told["access_token"]), float(told.get("expires_in", LIFE_SECONDS))
        except HTTPError as error:
            with error:
                code = error.code
            if code >= 500:  # noqa: PLR2004 - the server's own fault
                raise BrokerAwayError(f"the token server at {_shown(url)} answers with {code}") from None
            wrong = "client_id and …_client_secret" if code >= 400 else "token_endpoint_url"  # noqa: PLR2004
            fix = f"check kafka.sasl_oauthbearer_{wrong}"
            raise BrokerError(f"the token server at {_shown(url)} refuses: {code}: {fix}") from None
        except (ValueError, KeyError, TypeError, RecursionError, HTTPException):
            fix = "check kafka.sasl_oauthbearer_token_endpoint_url"
            raise BrokerError(f"the token server at {_shown(url)} sends no token: {fix}") from None
        except OSError as error:
            if isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError):
                message = f"the token server at {_shown(url)} is not trusted: set kafka.https_ca_location"
                raise BrokerError(message) from None
            raise BrokerAwayError(f"no answer from the token server at {_shown(url)}") from None
        return token, life

    def _trusted(self, url: str) -> ssl.SSLContext | None:
        if urlsplit(url).scheme != "https":
            return None
        try:
            return ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
        except OSError as error:
            raise UsageError(f"kafka.https_ca_location: the file holds no certificates: {error.strerror}") from None


def _shown(url: str) -> str:
    """The address of a URL: the rest of it may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


_KNOWN: dict[tuple[tuple[str, str], ...], Tokens] = {}


def tokens_of(kafka: Mapping[str, Any]) -> Tokens | None:
    """The tokens for the `kafka:` section, with a valid one at hand; None without OAUTHBEARER by client credentials.

    Clients with the same settings share them. Raises UsageError, BrokerError, BrokerAwayError.
    """
    settings = {name.replace(".", "_"): value for name, value in kafka.items()}
    if settings.get("sasl_mechanism") != MECHANISM and settings.get("sasl_mechanisms") != MECHANISM:
        return None
    if settings.get(f"{PREFIX}method") != "oidc":
        raise UsageError(f"kafka.{PREFIX}method: {MECHANISM} needs oidc, and {', '.join(_NEEDED)}")
    if missing := [name for name in _NEEDED if not settings.get(f"{PREFIX}{name}")]:
        raise UsageError(f"kafka.{PREFIX}{missing[0]}: {MECHANISM} needs it")
    if not _is_address(str(settings[f"{PREFIX}token_endpoint_url"])):
        raise UsageError(f"kafka.{PREFIX}token_endpoint_url: expected an address like https://login.example/token")
    key = tuple(sorted((name, str(value)) for name, value in settings.items() if name in OURS))
    tokens = _KNOWN.setdefault(key, Tokens(settings))
    tokens.token()
    return tokens
