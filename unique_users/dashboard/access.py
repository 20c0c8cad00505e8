"""Who may ask: the names the page is known by, where a request comes from, and the token.

Names are checked at loopback too: a page of anybody's, open in a browser on this machine, can send requests here, and
with a name of its own that leads to 127.0.0.1 it could read the answers (DNS rebinding).
"""

import hashlib
import hmac
import time
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

TOKEN_NAME = "UNIQUE_USERS_DASHBOARD_TOKEN"  # noqa: S105 - where it is, not what it is
TOKEN_CHARACTERS_MIN = 16
COOKIE = "unique-users-dashboard"
TRIES_MAX, TRIES_SECONDS = 10, 60.0  # wrong tokens, from everybody together
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Names:
    """The names, in `Host` and `Origin`, that this server answers to."""

    def __init__(self, host: str, origins: Collection[str]) -> None:
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        self._hosts = {urlsplit(origin).netloc for origin in self._origins}
        self._everywhere = _is_everywhere(host)
        self._names = _LOOPBACK if is_loopback(host) or self._everywhere else {host.lower()}

    def takes_host(self, host: str) -> bool:
        """Whether a request may name this host; of names, only known ones. At all addresses, any address will do."""
        host = host.lower()
        name = _name_of(host)
        return host in self._hosts or name in self._names or (self._everywhere and _is_address(name))

    def takes_origin(self, origin: str | None, host: str) -> bool:
        """Whether a request may come from this origin: from none, as with other programs, from here, or a known one."""
        if origin is None:
            return True
        origin = origin.lower()
        parts = urlsplit(origin)
        return origin in self._origins or (parts.scheme in {"http", "https"} and parts.netloc == host.lower())

    def is_https(self, host: str) -> bool:
        """Whether browsers reach this host by https."""
        return f"https://{host.lower()}" in self._origins


class Token:
    """The secret that everybody has to show, if there is one. A cookie shows that it was given, and not what it is."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._cookie = hmac.new(self._token, COOKIE.encode(), hashlib.sha256).hexdigest()
        self._wrong: list[float] = []

    def is_shown(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """Whether a request shows it, as a bearer or by the cookie."""
        if not self._token:
            return True
        if hmac.compare_digest(cookies.get(COOKIE, "").encode(), self._cookie.encode()):
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.is_right(given.strip())

    def is_right(self, given: str) -> bool:
        """Whether this is the token. After ten wrong ones within a minute, none is."""
        now = time.monotonic()
        self._wrong = [at for at in self._wrong if now - at < TRIES_SECONDS]
        if len(self._wrong) >= TRIES_MAX:
            return False
        if hmac.compare_digest(given.encode(), self._token):
            return True
        self._wrong.append(now)
        return False

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        return self._cookie


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches this address."""
    return host.lower() in _LOOPBACK or (_is_address(host) and ip_address(host.strip("[]")).is_loopback)


def _is_everywhere(host: str) -> bool:
    return _is_address(host) and ip_address(host.strip("[]")).is_unspecified


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _name_of(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
