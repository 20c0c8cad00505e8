"""Time a query over 24 hours while the counter runs: python bench/query.py.

A state is filled as a counter fills it that keeps up: 1,440 minutes, each with 1,000 users of 50,000 in 12 saves. A
real counter takes it over and counts new users meanwhile, while query.py is run as a process, ten times. Its answers
are compared with plain sets.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from statistics import median

import orjson

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from unique_users.aggregation.bucket_users import Origin  # noqa: E402
from unique_users.clients.connect import get_admin, get_producer  # noqa: E402
from unique_users.clients.topics import ensure_topic  # noqa: E402
from unique_users.config.load import load_config  # noqa: E402
from unique_users.config.schema import Config  # noqa: E402
from unique_users.counter.backfill import follow  # noqa: E402
from unique_users.event_time.buckets import Bucket, Calendar, iso_time  # noqa: E402
from unique_users.event_time.rollup import Rollup  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402
from unique_users.state.store import Store  # noqa: E402

START = 1_468_195_200  # 2016-07-11T00:00:00Z
MINUTES = 1_440
USERS_A_MINUTE = 1_000
USERS = 50_000
SAVES_A_MINUTE = 12
RUNS = 10


def main() -> None:
    """Print the median and the longest time; exit with 1 when an answer is wrong."""
    random = Random(1)
    pool = [f"{random.getrandbits(76):019x}" for _ in range(USERS)]
    minutes = [random.sample(pool, USERS_A_MINUTE) for _ in range(MINUTES)]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        LocalKafka("4.3.1", Path(directory) / "kafka", free_port()) as kafka,
    ):
        sets = [f"kafka.bootstrap_servers={kafka.bootstrap_servers}", f"state.directory={Path(directory) / 'state'}"]
        sets += ["counter.save_seconds=1"]
        flags = ["--config", str(ROOT / "config.yaml"), *(part for one in sets for part in ("--set", one))]
        config = load_config(str(ROOT / "config.yaml"), sets)
        fill(config, minutes)
        command = [sys.executable, str(ROOT / "counter.py"), *flags]
        done = threading.Event()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as counter:
            try:
                await_reading(counter)
                threading.Thread(target=keep_busy, args=(config, done)).start()
                times = ask(flags, len(set().union(*minutes)))
            finally:
                done.set()
                counter.terminate()
    print(f"24 hours, {MINUTES * USERS_A_MINUTE:,} entries, {RUNS} queries, all exact:", end=" ")
    print(f"median {median(times):.2f} s, longest {max(times):.2f} s")


def fill(config: Config, minutes: list[list[str]]) -> None:
    """Save the users as a counter would that has read nothing of the topic yet."""
    admin = get_admin(config)
    topic = ensure_topic(admin, config.topics.bucketed)
    admin.close()
    origin = Origin(config.topics.bucketed.name, topic.id, 0, topic.partitions)
    store = Store(Path(config.state.directory), origin)
    follow(store, Rollup(Calendar()))
    a_save = -(-USERS_A_MINUTE // SAVES_A_MINUTE)
    for number, uids in enumerate(minutes):
        minute = Bucket("minute", START + 60 * number)
        for first in range(0, USERS_A_MINUTE, a_save):
            added = uids[first : first + a_save]
            store.save({minute: added}, {}, {minute: first + len(added)}, 0)
    store.close()


def await_reading(counter: "subprocess.Popen[str]") -> None:
    """Wait until the counter has opened the state."""
    for line in counter.stderr or ():
        if "reading" in line:
            return
    sys.exit("the counter ended")


def keep_busy(config: Config, done: threading.Event) -> None:
    """Have the counter count new users in the minute after the day, 1,000 a second."""
    producer = get_producer(config)
    number = 0
    while not done.wait(0.1):
        users = [f"new-{number}-{user}" for user in range(100)]
        producer.send(config.topics.bucketed.name, orjson.dumps({"uids": users}), b"%d" % (START + 60 * MINUTES))
        producer.backpressure_eased(0)
        number += 1
    producer.close()


def ask(flags: list[str], expected: int) -> list[float]:
    """The seconds that each query took."""
    asked = ["--from", iso_time(START), "--to", iso_time(START + 60 * MINUTES), "--format", "json"]
    times = []
    for _ in range(RUNS):
        began = time.monotonic()
        out = subprocess.run([sys.executable, str(ROOT / "query.py"), *asked, *flags], check=True, capture_output=True)
        times.append(time.monotonic() - began)
        answer = json.loads(out.stdout)["unique_users"]
        if answer != expected:
            sys.exit(f"wrong: {answer} instead of {expected}")
    return times


if __name__ == "__main__":
    main()
