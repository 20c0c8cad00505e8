"""The page's server in this process, told by the test what the counts are; and a browser to look at it."""

import http.client
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Self

from brokers import config_for
from patience import LIMIT_SECONDS

from unique_users.aggregation.counts import Count
from unique_users.dashboard.follower import Follower, TakesAnswer, Update
from unique_users.dashboard.health import Kind, State
from unique_users.dashboard.server import listening, serve
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.metrics.monitor import monitored
from unique_users.queries.published import BucketRange
from unique_users.runtime.signals import Stop

NOON = 1_795_867_200  # 2026-11-28T12:00:00Z
LIVE = State(
    Kind.LIVE,
    frames_per_second=1_000.0,
    unread=12,
    uncounted=30,
    behind_seconds=0.2,
    read=1_000_000,
    rejected={"late": 1_200, "bad_json": 34},
    clock=NOON + 30,
    newest_frame=NOON + 30,
)


def minute(number: int) -> Bucket:
    """The minute so many minutes after noon."""
    return Bucket("minute", NOON + 60 * number)


def found(total: Count, at_end: int | None = None, *why: str) -> PublishedBucket:
    return PublishedBucket(total, why, at_end)


class FakeFollower(Follower):
    """Tells what the test says, and answers questions about older ranges from `older`."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell
        self.older: dict[Bucket, PublishedBucket] = {}
        self.asked: list[BucketRange] = []

    def start(self) -> None:
        pass

    @property
    def alive(self) -> bool:
        return True

    def ask(self, asked: BucketRange, answer: TakesAnswer) -> None:
        self.asked.append(asked)
        answer({bucket: found for bucket, found in self.older.items() if asked.holds(bucket)})

    def close(self) -> None:
        pass


class PageServer:
    """A context manager; `say` changes what the page shows. It says nothing before that."""

    def __init__(
        self, token: str = "", intervals: Iterable[str] = ("minute",), zone: str = "UTC", at: int = 0, **rules: Any
    ) -> None:
        self.config = config_for(
            "fake:1",
            dashboard={"port": 0, **rules},
            counter={"intervals": list(intervals), "timezone": zone},
        )
        self._token = token
        self._stop = Stop()
        self._made = threading.Event()
        self.follower: FakeFollower
        self._socket = listening("127.0.0.1", at)
        self.port = int(self._socket.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        def new_follower(tell: Any) -> FakeFollower:
            self.follower = FakeFollower(tell)
            self._made.set()
            return self.follower

        with monitored(self.config, "dashboard") as monitor:
            serve(self.config, self._socket, self._token, new_follower, self._stop, monitor)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._made.wait(LIMIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.request()
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive()

    def say(
        self,
        counts: Mapping[Bucket, PublishedBucket],
        state: State = LIVE,
        since: int = NOON - 86_400 - 7_200,
        *,
        complete: bool = True,
    ) -> None:
        intervals: list[str] = [*self.config.counter.intervals]
        self.follower._tell(Update(set(counts), counts, dict.fromkeys(intervals, since), complete, state))

    def get(self, path: str, method: str = "GET", body: str = "", **headers: str) -> "Answer":
        """Ask as any program does; names of headers are written with underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, named)
        answer = connection.getresponse()
        told = Answer(answer.status, answer.read().decode(), answer.getheader)
        connection.close()
        return told


class Answer(NamedTuple):
    """What a request gave."""

    status: int
    text: str
    getheader: Callable[[str], str | None]


def a_day(last_users: int = 404) -> dict[Bucket, PublishedBucket]:
    """A day of minutes up to noon and the open one, with a wave, some late users, and one that is not whole."""
    counts = {}
    for number in range(-1_500, 0):
        users = 900 + (number * 37) % 90 - abs(number % 240 - 120)
        late = 40 if number % 11 == 0 else number % 5
        counts[minute(number)] = found(users, users - late if number > -1_400 else None)
    counts[minute(-20)] = found(800, 790, "state_lost")
    counts[minute(0)] = found(last_users)
    return counts
