"""Measure the live page's server: python bench/page.py latency|pages|redraw|start.

latency  from a frame's append to `feed` until an open page is told of it, by this process's clock, while 1,000 frames a
         second come [--rate] [--seconds]
pages    what the dashboard and the counter take while 100 pages are open [--pages] [--seconds]
redraw   how long a browser takes to draw a day of minutes anew, in Chromium
start    how long until the first numbers, and until a whole day is read, with 30 days of minutes in 3 partitions
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from background import cpu_seconds, latencies, running, send_paced  # noqa: E402

from unique_users.clients.connect import get_admin  # noqa: E402
from unique_users.config.load import load_config  # noqa: E402
from unique_users.config.schema import Config  # noqa: E402
from unique_users.event_time.buckets import Bucket, Calendar  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402
from unique_users.messages.counts import encode_count  # noqa: E402

SETTLE_SECONDS = 8.0
PATIENCE_SECONDS = 60.0
PAGES = 100
REDRAWS = 50
DAYS, PARTITIONS = 30, 3
USERS_ROW = 2
FRAME = '{"uid":"%019x","ts":%d,"padding":"' + "x" * 1_950 + '"}'


def main() -> None:
    """Run one measurement on a broker of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--rate", type=int, default=1_000, help="frames a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--client", default="kafka-python")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        with LocalKafka("4.3.1", place / "kafka", free_port()) as kafka:
            sets = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"client={arguments.client}"]
            sets += [f"state.directory={place / 'state'}", "dashboard.port=0"]
            MEASUREMENTS[arguments.what](arguments, sets)


def address_of(process: psutil.Popen) -> str:
    """Where a dashboard is, which it says in its first line."""
    for line in process.stderr:
        if "http://" in line:
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return str(line[line.index("http://") :].split()[0])
    sys.exit("the dashboard has ended")


def socket_of(address: str) -> str:
    """The address of the live connection."""
    return f"{address.replace('http', 'ws', 1)}live"


def measure_latency(arguments: argparse.Namespace, sets: list[str]) -> None:
    """Every frame has a user of its own and all lie in one minute: a count of N says that the first N are in it."""
    from websockets.sync.client import connect  # noqa: PLC0415 - only this needs it

    frames = arguments.rate * arguments.seconds
    seen: list[tuple[float, int]] = []
    ts = int(time.time()) // 60 * 60
    config = load_config(str(ROOT / "config.yaml"), sets)

    def watch(address: str) -> None:
        with connect(socket_of(address)) as page:
            while not seen or seen[-1][1] < frames:
                said = json.loads(page.recv())
                if said["type"] == "hello":
                    page.send(json.dumps({"interval": "minute", "last": 10_800}))
                now = time.monotonic()
                seen.extend((now, row[USERS_ROW]) for row in said.get("rows", []) if row[0] == ts)

    with running(sets, "bucketer", "counter", "dashboard") as processes:
        address = address_of(processes[2])
        time.sleep(SETTLE_SECONDS)
        watcher = threading.Thread(target=watch, args=(address,), daemon=True)
        watcher.start()
        before = cpu_seconds(processes)
        sent = send_paced(config, arguments.rate, frames, lambda number: FRAME % (number, ts))
        cpu = [after - at for after, at in zip(cpu_seconds(processes), before, strict=True)]
        watcher.join(PATIENCE_SECONDS)
    found = latencies(seen, sent)
    if len(found) != frames:
        sys.exit(f"{frames - len(found)} of {frames} frames did not show on the page")
    cuts = statistics.quantiles(found, n=100)
    print(
        f"{arguments.rate:,} frames/s: append to page p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, p99 {cuts[98]:.2f} s,"
        f" largest {max(found):.2f} s; dashboard {cpu[2] / arguments.seconds:.1%} of a core"
    )


def measure_pages(arguments: argparse.Namespace, sets: list[str]) -> None:
    """First without a page, then with many."""
    config = load_config(str(ROOT / "config.yaml"), sets)
    with running(sets, "bucketer", "counter", "dashboard") as processes:
        address = address_of(processes[2])
        time.sleep(SETTLE_SECONDS)
        for pages in (0, arguments.pages):
            heard = asyncio.run(with_pages(config, address, pages, arguments, processes))
            print(heard, flush=True)


async def with_pages(
    config: Config, address: str, pages: int, arguments: argparse.Namespace, processes: Sequence[psutil.Popen]
) -> str:
    """Keep so many pages open while frames come; what the counter and the dashboard take meanwhile."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - only this needs it

    messages = 0

    async def page() -> None:
        nonlocal messages
        async with connect(socket_of(address)) as live:
            await live.send(json.dumps({"interval": "minute", "last": 10_800}))
            async for _ in live:
                messages += 1

    readers = [asyncio.create_task(page()) for _ in range(pages)]
    await asyncio.sleep(SETTLE_SECONDS)
    before = cpu_seconds(processes)
    begin = time.monotonic()
    frames = arguments.rate * arguments.seconds
    await asyncio.to_thread(
        send_paced, config, arguments.rate, frames, lambda number: FRAME % (number, int(time.time()))
    )
    seconds = time.monotonic() - begin
    _, counter, dashboard = ((after - at) / seconds for after, at in zip(cpu_seconds(processes), before, strict=True))
    megabytes = processes[2].memory_info().rss / 1e6
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    told = messages / seconds / pages if pages else 0
    return (
        f"{pages} pages, {arguments.rate:,} frames/s, {seconds:.0f} s: dashboard {dashboard:.1%} of a core and"
        f" {megabytes:.0f} MB, counter {counter:.1%} of a core, {told:.1f} messages a second to each page"
    )


def publish_minutes(config: Config, minutes: int, partitions: int) -> None:
    """Fill `counts` with the minutes up to now."""
    from kafka import KafkaProducer  # noqa: PLC0415 - ours sets no times

    admin = get_admin(config)
    admin.create(config.topics.counts)
    producer = KafkaProducer(bootstrap_servers=config.bootstrap_servers, linger_ms=50)
    last = int(time.time()) // 60 * 60
    for partition in range(partitions):
        for start in range(last - minutes * 60, last + 1, 60):
            key, value = encode_count(
                Bucket("minute", start), partition, 1_000 + start // 60 % 97, Calendar(), generation="x-y", at_end=990
            )
            producer.send(config.topics.counts.name, value, key, partition=partition, timestamp_ms=(start + 60) * 1000)
    producer.flush()
    producer.close()
    admin.close()


def measure_start(_arguments: argparse.Namespace, sets: list[str]) -> None:
    """From the launch of the process to the first closed minute, and to a complete day."""
    sets = [*sets, f"topics.counts.partitions={PARTITIONS}"]
    config = load_config(str(ROOT / "config.yaml"), sets)
    publish_minutes(config, DAYS * 1_440, PARTITIONS)
    launched = time.monotonic()
    with running(sets, "dashboard") as (process,):
        address = address_of(process)
        listening = time.monotonic() - launched
        first = until(address, lambda now: now["intervals"]["minute"]["closed"]) - launched
        (cpu,) = cpu_seconds([process])
        whole = until(address, lambda now: now["complete"]) - launched
        megabytes = process.memory_info().rss / 1e6
    print(
        f"{DAYS * 1_440:,} minutes in {PARTITIONS} partitions: listening after {listening:.2f} s, first numbers after"
        f" {first:.2f} s ({cpu:.2f} s of a core), the last day whole after {whole:.2f} s, {megabytes:.0f} MB"
    )


def until(address: str, condition: Any) -> float:
    """When `api/now` first says so."""
    while True:
        with urllib.request.urlopen(f"{address}api/now") as answer:
            if condition(json.load(answer)):
                return time.monotonic()
        time.sleep(0.02)


def measure_redraw(_arguments: argparse.Namespace, sets: list[str]) -> None:
    """What the page's own marks say of each redraw of a day, in a window of 1280 pixels."""
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415 - only this needs it

    config = load_config(str(ROOT / "config.yaml"), sets)
    publish_minutes(config, 2_000, 1)
    with running(sets, "dashboard") as (process,), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address_of(process)}?last=24h")
        expect(page.locator("#chart")).to_have_attribute("aria-valuemax", "1439", timeout=PATIENCE_SECONDS * 1000)
        for _ in range(REDRAWS):  # a zone that is chosen anew draws everything anew
            page.evaluate("document.getElementById('zone').dispatchEvent(new Event('change', {bubbles: true}))")
            page.wait_for_timeout(50)
        taken = page.evaluate("performance.getEntriesByName('redraw', 'measure').map((each) => each.duration)")
        browser.close()
    print(
        f"{len(taken)} redraws of 1,440 minutes: median {statistics.median(taken):.1f} ms, largest {max(taken):.1f} ms"
    )


MEASUREMENTS = {
    "latency": measure_latency,
    "pages": measure_pages,
    "redraw": measure_redraw,
    "start": measure_start,
}


if __name__ == "__main__":
    main()
