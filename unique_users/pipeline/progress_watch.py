"""Watches the line in the background."""

import logging
import time
from collections.abc import Callable
from threading import Lock

from unique_users.clients.protocols import Admin
from unique_users.config.schema import Config
from unique_users.errors import BrokerAwayError, BrokerError
from unique_users.pipeline.low_watermark import LowWatermark
from unique_users.pipeline.progress import Progress, look
from unique_users.runtime.repeating import Repeating

_log = logging.getLogger(__name__)

LOOK_SECONDS = 4.0
STALE_SECONDS = 15.0
CLOSE_SECONDS = 1.0


class ProgressWatch:
    """Looks at the line every four seconds in its own thread, so that no loop has to wait for a silent broker.

    The admin client is also created in that thread: a start need not wait for it.
    """

    def __init__(self, new_admin: Callable[[], Admin], config: Config) -> None:
        self._new_admin = new_admin
        self._admin: Admin | None = None
        self._config = config
        self._low_watermark = LowWatermark(config.counter.idle_seconds)
        self._seen: tuple[float, Progress] | None = None
        self._refusal = ""
        self._lock = Lock()
        self._looking = Repeating("watch the line", LOOK_SECONDS, self.look)

    def current(self) -> Progress | None:
        """What was seen last; None if the broker has not answered for a while, or refuses."""
        seen = self._seen
        return None if seen is None or time.monotonic() - seen[0] > STALE_SECONDS else seen[1]

    def look(self) -> None:
        """Look now. Logs once that a broker refuses; the loops say when it is away."""
        try:
            with self._lock:
                self._admin = self._admin or self._new_admin()
                now = time.monotonic()
                self._seen = now, look(self._admin, self._config, self._low_watermark, now)
        except BrokerAwayError:
            return
        except BrokerError as error:
            if str(error) != self._refusal:
                self._refusal = str(error)
                _log.warning(f"cannot see how far the bucketers have read, so no bucket is closed: {error}")

    def close(self) -> None:
        """Stop looking and close the admin client."""
        if self._looking.close(CLOSE_SECONDS) and self._admin is not None:
            self._admin.close()
