"""What kafka-python's consumer and admin client fail to do when no broker answers."""

from typing import Any


class LetsGo:
    """Releases thread and sockets when no broker answers; the clients' own constructors keep them forever."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except BaseException:
            self._closed = True
            if (connections := getattr(self, "_client", None)) is not None:
                connections.close()
                self._net.stop()  # type: ignore[attr-defined]
            raise
