"""The page beside the running scripts, on a real broker, in a real browser."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from harness import new_broker
from kafka import KafkaProducer
from patience import until
from playwright.sync_api import Page, expect
from running import Running

from unique_users.demo.sample import frames as sample_frames
from unique_users.local_kafka.broker import LocalKafka

pytestmark = pytest.mark.slow

Open = Callable[..., Page]
WAIT_SECONDS = 90  # for what is stated in seconds; the machine may be busy
MILLISECONDS = WAIT_SECONDS * 1000
# Members that are killed are missed after six seconds; saves and publications as by default.
SETTINGS = ["kafka.session_timeout_ms=6000", "kafka.heartbeat_interval_ms=1000", "dashboard.port=0"]


class Watched(Running):
    """The scripts and the page."""

    def start_page(self) -> str:
        """Start the dashboard. Returns the page's address."""
        page = self.start("dashboard")

        def address() -> re.Match[str] | None:
            return re.search(r"http://\S+/", self.said("dashboard"))

        said = until(address, lambda: self.said("dashboard"), give_up=lambda: page.poll() is not None)
        return said[0]

    def send(self, frames: list[bytes]) -> None:
        self.run("producer", "-", stdin=b"\n".join(frames) + b"\n")


@pytest.fixture
def watched(broker: str, tmp_path: Path) -> Iterator[Watched]:
    running = Watched(broker, tmp_path, SETTINGS)
    yield running
    running.end_all()


def asked(address: str, path: str, **headers: str) -> Any:
    with urlopen(Request(address + path, headers=headers), timeout=WAIT_SECONDS) as answer:
        return json.load(answer)


def users(first: int, count: int, ts: int) -> list[bytes]:
    return [b'{"uid":"user %d","ts":%d}' % (first + number, ts) for number in range(count)]


def test_the_page_shows_what_the_recount_says(watched: Watched, opened: Open) -> None:
    frames = list(sample_frames(5_000, users=1_000, start=int(time.time()) - 7_200))
    truth = {start: count for start, count in watched.recount(b"\n".join(frames) + b"\n").items() if count}
    watched.start("bucketer")
    watched.start("counter")
    address = watched.start_page()
    watched.send(frames)
    start, end = min(truth), max(truth) + 60

    def shown() -> dict[int, int]:
        times = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ts)) for ts in (start, end)]
        found = asked(address, f"api/counts?from={times[0]}&to={times[1]}")["buckets"]
        return {
            int(time.mktime(time.strptime(row["start"], "%Y-%m-%dT%H:%M:%SZ"))) - time.timezone: row["unique_users"]
            for row in found
        }

    until(lambda: shown() == truth, lambda: f"{truth}, not {shown()}")
    page = opened(address)
    page.locator("#as-table summary").click()
    newest = [f"{count:,}" for _, count in sorted(truth.items(), reverse=True)]
    expect(page.locator("#rows td:nth-child(3)")).to_have_text(newest, timeout=MILLISECONDS)


def test_a_late_frame_changes_a_closed_minute_and_the_page_shows_both_values(watched: Watched, opened: Open) -> None:
    """minute 0: 120 users │ minute 1: 600 users, so minute 0 has ended │ one more in minute 0"""
    begin = int(time.time()) // 60 * 60 - 3_600
    watched.start("bucketer")
    watched.start("counter")
    page = opened(watched.start_page())
    watched.send(users(0, 120, begin + 30))
    expect(page.locator("#open")).to_have_text("120", timeout=MILLISECONDS)
    watched.send(users(500, 300, begin + 62))
    expect(page.locator("#closed")).to_have_text("120", timeout=MILLISECONDS)
    watched.send(users(1_000, 600, begin + 63))
    expect(page.locator("#open")).to_have_text("900", timeout=MILLISECONDS)
    expect(page.locator("#closed-late")).to_have_text("120 at its end, none since", timeout=MILLISECONDS)
    watched.send(users(2_000, 1, begin + 10))
    expect(page.locator("#closed")).to_have_text("121", timeout=MILLISECONDS)
    expect(page.locator("#closed-late")).to_have_text("120 at its end, +1 since")


class Stream:
    """Frames of now, twenty a second, until it is ended; it waits for a broker that is away."""

    def __init__(self, broker: str, topic: str) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(broker, topic), daemon=True)
        self._thread.start()

    def _send(self, broker: str, topic: str) -> None:
        with KafkaProducer(bootstrap_servers=broker, delivery_timeout_ms=600_000, request_timeout_ms=5_000) as producer:
            number = 0
            while not self._ended.wait(0.05):
                number += 1
                producer.send(topic, users(number % 50, 1, int(time.time()))[0])

    def end(self) -> None:
        self._ended.set()
        self._thread.join(WAIT_SECONDS)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[LocalKafka]:
    with new_broker(tmp_path / "kafka" / "data") as kafka:
        yield kafka


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_silence_is_told_apart_and_so_is_its_end(own_broker: LocalKafka, tmp_path: Path, opened: Open) -> None:
    """kill -9 of the counter, the bucketer and the broker, one after the other, each started again."""
    watched = Watched(own_broker.bootstrap_servers, tmp_path, SETTINGS)
    try:
        started: dict[str, subprocess.Popen[str]] = {name: watched.start(name) for name in ("bucketer", "counter")}
        page = opened(watched.start_page())
        for name in started:
            until(lambda name=name: "reading" in watched.said(name), f"{name} to start")  # type: ignore[misc]
        stream = Stream(own_broker.bootstrap_servers, watched.topic("feed"))
        state = page.locator("#state-text")
        expect(state).to_contain_text("Live", timeout=MILLISECONDS)
        for name in ("counter", "bucketer"):
            started[name].kill()
            expect(state).to_contain_text(f"{name.capitalize()} silent since", timeout=MILLISECONDS)
            watched.start(name)
            expect(state).to_contain_text("Live", timeout=MILLISECONDS)
        own_broker.kill()
        expect(state).to_contain_text("Kafka broker silent since", timeout=MILLISECONDS)
        own_broker.start()
        expect(state).to_contain_text("Live", timeout=MILLISECONDS)
        stream.end()
        expect(state).to_contain_text("No new frames since", timeout=MILLISECONDS)
    finally:
        watched.end_all()
