"""The fields that frames have, for somebody who configured other ones. Pure.

Only names are kept, never values. Fields of an object inside the frame are shown as paths.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence

import orjson

from unique_users.messages.frame import Reason

FRAMES_MAX = 1_000  # looked at
DEPTH_MAX = 5  # of nested objects
FIELDS_MAX = 300  # of one frame
PATHS_MAX = 5_000  # that are different
SHOWN_MAX = 20
NAME_CHARACTERS = 60
SHARE_MIN = 0.01  # rarer names are data: the keys of a map
FRAME_BYTES_MAX = 1_048_576

# The reasons for which another field may be the right one.
_WRONG_FIELD = {Reason.NO_UID, Reason.NO_TS}
_LIKELY = re.compile(
    r"user|uid|(?:^|[._])id$|Id$|actor|login|account|time|date|when|(?:^|[._])ts$|(?:_a|A)t$", re.IGNORECASE
)


class FirstFrames:
    """Looks at frames until one is accepted; if none of the first 1,000 is, says once which fields they have.

    `uid` and `ts` are the settings `frame.uid` and `frame.ts`.
    """

    def __init__(self, uid: object, ts: object) -> None:
        self._settings = (uid, ts)
        self._read = 0
        self._objects = 0
        self._wrong_field = False
        self._seen: Counter[str] = Counter()
        self.done = False

    def add(self, frames: Sequence[bytes | None], accepted: int, reasons: Container[str]) -> str | None:
        """Take in the next frames, of which so many were accepted. Returns the line to log, if it is time for it."""
        if accepted:
            self.done = True
        if self.done:
            return None
        self._wrong_field = self._wrong_field or any(reason in reasons for reason in _WRONG_FIELD)
        for frame in frames[: FRAMES_MAX - self._read]:
            self._look_at(frame)
        self._read += len(frames)
        return self.told() if self._read >= FRAMES_MAX else None

    def told(self) -> str | None:
        """The line, if frames were read and none was accepted; None if it was returned before."""
        if self.done or not self._read:
            return None
        self.done = True
        names = self._names()
        if not self._wrong_field or not names or all(map(self._most_have, self._settings)):
            return None
        uid, ts = self._settings
        read = min(self._read, FRAMES_MAX)
        return (
            f"none of the first {read:,} frames was accepted: frame.uid is {uid!r}, frame.ts is {ts!r};"
            f" seen instead: {', '.join(names)}; set frame.uid and frame.ts to the fields with the user and the time"
        )

    def _look_at(self, frame: bytes | None) -> None:
        for root in _objects(frame):
            self._objects += 1
            for path in _leaves(root):
                if path in self._seen or len(self._seen) < PATHS_MAX:
                    self._seen[path] += 1

    def _most_have(self, setting: object) -> bool:
        """Whether most frames have a field of this setting; what is wrong is then not the setting."""
        names = setting if isinstance(setting, list) else [setting]
        return any(self._seen[str(name)] > self._objects / 2 for name in names)

    def _names(self) -> list[str]:
        shares = {path: count / self._objects for path, count in self._seen.items()}
        paths = [path for path, share in shares.items() if share >= SHARE_MIN]
        paths.sort(key=lambda path: (-round(shares[path], 2), _LIKELY.search(path) is None, path.count("."), path))
        shown = [f"{_printable(path)} ({shares[path]:.0%})".replace("%", " %") for path in paths[:SHOWN_MAX]]
        return [*shown, f"and {len(paths) - SHOWN_MAX:,} more"] if len(paths) > SHOWN_MAX else shown


def _objects(frame: bytes | None) -> list[dict[str, object]]:
    """The object in a frame; if there are several, in an array or on lines, the first one."""
    if not frame or len(frame) > FRAME_BYTES_MAX:
        return []
    root = _parsed(frame) or _parsed(frame.lstrip().partition(b"\n")[0])
    if isinstance(root, list):
        root = root[0] if root else None
    return [root] if isinstance(root, dict) else []


def _parsed(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _leaves(root: dict[str, object]) -> Iterable[str]:
    """The paths of values that are not objects."""
    found: set[str] = set()
    waiting = [("", root, 1)]
    while waiting:
        before, at, depth = waiting.pop(0)
        for name, value in at.items():
            if len(found) >= FIELDS_MAX:
                return found
            path = f"{before}{name}"
            if isinstance(value, dict) and value and depth < DEPTH_MAX:
                waiting.append((f"{path}.", value, depth + 1))
            else:
                found.add(path)
    return found


def _printable(path: str) -> str:
    text = path if path.isprintable() else repr(path)[1:-1]
    return text if len(text) <= NAME_CHARACTERS else f"{text[:NAME_CHARACTERS]}…"
