"""Tells a service manager such as systemd how this process is doing, if it asks for that with `NOTIFY_SOCKET`.

The messages are those of sd_notify(3). A separate thread sends them, so that the loop may take its time with a large
state. It says that the process is alive only while the loop in the main thread makes progress.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from unique_users.runtime.heartbeat import PULSE, Pulse
from unique_users.runtime.repeating import Repeating
from unique_users.runtime.signals import Stop

_log = logging.getLogger(__name__)

SLICE_SECONDS = 0.25
EXTEND_EVERY_SECONDS = 5.0  # while the process starts, which takes as long as the broker is away
EXTEND_BY_SECONDS = 60.0
SEND_SECONDS = 2.0  # the manager may be slow to read
WAITING = "waiting for the broker"
READY = "reading"


class Messages:
    """Decides what to say and when: ready once, stopping once, and alive again and again while the loop is running."""

    def __init__(self, pulse: Pulse, watchdog_seconds: float | None) -> None:
        self._pulse = pulse
        self._watchdog_seconds = watchdog_seconds
        self._beats = pulse.beats
        self._alive_at = 0.0  # when it was last said
        self._status = ""
        self._ready = self._stopping = False

    def due(self, now: float, not_ready: str, *, stopping: bool) -> str:
        """The message that is due, empty if there is none. `not_ready` says why the process is not; empty if it is."""
        lines = []
        if stopping and not self._stopping:
            self._stopping = True
            lines.append("STOPPING=1")
        if not not_ready and not self._ready:
            self._ready = True
            lines.append("READY=1")
        if not self._stopping and (status := not_ready or READY) != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if alive := self._alive(now):
            lines.append(alive)
        return "\n".join(lines)

    def _alive(self, now: float) -> str:
        """What says that the process is alive. Before it is ready, it has no watchdog, only a limited time to start."""
        every = self._watchdog_seconds and self._watchdog_seconds / 2 if self._ready else EXTEND_EVERY_SECONDS
        moved = self._pulse.beats != self._beats or self._pulse.busy
        if not every or not moved or now - self._alive_at < every:
            return ""
        self._alive_at = now
        self._beats = self._pulse.beats
        return "WATCHDOG=1" if self._ready else f"EXTEND_TIMEOUT_USEC={EXTEND_BY_SECONDS * 1e6:.0f}"


class Supervised:
    """What the process says about itself: `not_ready` says why it cannot do its work yet; empty if it can."""

    def __init__(self) -> None:
        self.not_ready: Callable[[], str] = lambda: WAITING

    def ready(self) -> None:
        """Say from now on that it is ready."""
        self.not_ready = lambda: ""


@contextmanager
def supervised(stop: Stop, environment: Mapping[str, str] = os.environ) -> Iterator[Supervised]:
    """Keep telling the service manager until the context ends. Without a service manager, nothing happens."""
    process = Supervised()
    address = environment.get("NOTIFY_SOCKET", "")
    if not address or not hasattr(socket, "AF_UNIX"):
        yield process
        return
    messages = Messages(PULSE, watchdog_seconds_in(environment))
    with _Manager(address) as manager:

        def tell(*, last: bool = False) -> None:
            manager.hear(messages.due(time.monotonic(), process.not_ready(), stopping=last or stop.requested))

        telling = Repeating("service manager", SLICE_SECONDS, tell)
        try:
            yield process
        finally:
            telling.close(SEND_SECONDS)
            tell(last=True)


class _Manager:
    """The service manager at its socket. A message that cannot be sent is dropped. A context manager."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address  # a name without a file
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(SEND_SECONDS)
        self._complained = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._socket.close()

    def hear(self, message: str) -> None:
        try:
            if message:
                self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                _log.warning(f"cannot tell the service manager at NOTIFY_SOCKET: {error.strerror or error}")


def watchdog_seconds_in(environment: Mapping[str, str]) -> float | None:
    """How often the service manager wants to hear from this process; None: never."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
