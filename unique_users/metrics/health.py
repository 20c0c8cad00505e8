"""Whether the process is healthy, and ready: what a supervisor asks for."""

from collections.abc import Callable

from unique_users.runtime.heartbeat import Pulse

STILL_SECONDS_MAX = 30.0
# A sample that comes so late was not ours to take: the process was stopped, or the machine slept.
SUSPENDED_SECONDS = 2.0


class Health:
    """Sampled every second or so, it knows for how long the loop has stood still.

    That does not depend on the broker: a loop that waits for it moves, and a restart would not bring it back.
    """

    def __init__(self, pulse: Pulse, not_ready: Callable[[], str]) -> None:
        self._pulse = pulse
        self._beats = pulse.beats
        self._still = 0.0
        self.not_ready = not_ready  # why the process is not ready, empty if it is

    def sample(self, seconds: float) -> None:
        """Look at the loop, `seconds` after the last look."""
        before, self._beats = self._beats, self._pulse.beats
        moves = self._beats != before or bool(self._pulse.busy)
        self._still = 0.0 if moves else self._still + min(seconds, SUSPENDED_SECONDS)

    def unhealthy(self) -> str:
        """Why the process is not healthy, empty if it is."""
        if self._still < STILL_SECONDS_MAX:
            return ""
        return f"the loop has not moved for {self._still:.0f} s"
