"""Due times that do not drift: each follows from the previous one, not from when it was noticed."""

from collections.abc import Callable


class Timer:
    """Becomes due every `seconds` of `monotonic`, the first time `seconds` from now."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._next = monotonic() + seconds

    def due(self) -> bool:
        """Whether the time has come. True once for each time; times missed entirely are skipped."""
        late_by = self._monotonic() - self._next
        if late_by < 0:
            return False
        self._next += self._seconds * (1 + late_by // self._seconds)
        return True

    def remaining(self) -> float:
        """Seconds until it is due, 0 when it is."""
        return max(0.0, self._next - self._monotonic())
