"""This project and other stream engines at the same job, in turn, on frames of which some are late and some are bad.

    python bench/engines.py speed --runs 3 --json docs/performance/engines.json    1,000,000 frames that wait in `feed`
    python bench/engines.py kills --json docs/performance/engines.json             ten kill -9 each in a live stream
    python bench/engines.py table docs/performance/engines.json                    what the file says, in Markdown

`make bench-peers` does all three. One in 200 frames is six hours late and 3 % are up to 100 seconds late; one line in
1,000 is invalid. `speed` counts what is in a topic from its start to the last count, as bench/pipeline.py does.
`kills` sends 2,000 frames a second, launches an engine, waits for the first count, kills all its processes at a moment
by chance, and so on; then the stream ends, and what the engine has published is compared with plain sets.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "bench/peers")]

from compared import OURS, compared  # noqa: E402
from engines_table import table  # noqa: E402
from kills import Feed, Job, survive  # noqa: E402
from late_and_bad import bad_lines  # noqa: E402
from pipeline_tables import cpu, whole_cpu_seconds  # noqa: E402
from registry import PEERS  # noqa: E402
from run import durable_flags  # noqa: E402
from runs import bench  # noqa: E402
from topics import create, end, published  # noqa: E402
from variants import Variant  # noqa: E402

from unique_users.aggregation.counts import users_in  # noqa: E402
from unique_users.commands.published import read_published  # noqa: E402
from unique_users.config.load import load_config  # noqa: E402
from unique_users.local_kafka.broker import LocalKafka, free_port  # noqa: E402

FOREVER = 1_000_000_000
SCRIPTS = ("bucketer", "counter")
VARIANTS = {name: Variant(client, combine=combine) for name, (client, combine) in OURS.items()}
SLOW = ("faust", "spark", "quix-direct", "quix-rekeyed")  # one run is enough


def speed(names: list[str], frames: int, runs: int, keep: Callable[[str, dict[str, Any]], None]) -> None:
    """Run each engine so often on what waits in a topic, in turn; the slow ones once."""
    for name in names:
        if name in PEERS:
            PEERS[name].command()
    with bench(frames, [], uneven=True) as ready:
        for number in range(runs):
            for name in names:
                if number and name in SLOW:
                    continue
                result = dict(ready.run_peer(name)) if name in PEERS else _figures(ready.run(VARIANTS[name]))
                result["exact"] = result["exact"] and result["rejected"] == bad_lines(frames)
                keep(name, result)


def _figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """A run of this project in the words of a peer's."""
    return {
        "exact": result["exact"],
        "rejected": result["rejected"],
        "late": 0,
        "settings": (result["client"] != "kafka-python") + result["combine"],
        "frames_per_second": result["frames"] / result["seconds"],
        "cpu_us_per_frame": cpu(result),
        "launch_seconds": result["launch_seconds"],
        "all_cpu_seconds": whole_cpu_seconds(result),
        "peak_mb": sum(result[script]["peak_mb"] for script in SCRIPTS),
    }


def kills(names: list[str], times: int, keep: Callable[[str, dict[str, Any]], None]) -> None:
    """Kill each engine so often, one engine after the other."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        scratch = Path(directory)
        with LocalKafka("4.3.1", scratch / "kafka", free_port()) as kafka:
            for name in names:
                servers, feed = kafka.bootstrap_servers, f"feed-{name}"
                create(servers, feed)
                job = _peer(name, servers, feed, scratch) if name in PEERS else _ours(name, servers, feed, scratch)
                keep(name, survive(job, Feed(servers, feed), times, scratch / "said")._asdict())


def _peer(name: str, servers: str, feed: str, scratch: Path) -> Job:
    create(servers, name)
    flags = ["--bootstrap-servers", servers, "--topic", feed, "--frames", str(FOREVER), "--out", os.devnull]
    command = [*PEERS[name].command(), *flags, *durable_flags(name, scratch / name)]
    return Job([command], partial(end, servers, name), partial(published, servers, name))


def _ours(name: str, servers: str, feed: str, scratch: Path) -> Job:
    variant, counts = VARIANTS[name], f"{name}-counts"
    create(servers, counts)
    settings = [f"kafka.bootstrap_servers={servers}", *variant.settings(), f"topics.feed.name={feed}"]
    settings += [f"topics.{topic}.name={name}-{topic}" for topic in ("bucketed", "counts", "rejected")]
    settings += [f"{script}.group={name}-{script}" for script in SCRIPTS]
    # As with the peers, the next launch takes over at once from one that was killed.
    settings += [f"state.directory={scratch / name}", f"kafka.group_instance_id={name}"]
    sets = [part for setting in settings for part in ("--set", setting)]
    config = str(ROOT / "config.yaml")
    commands = [[sys.executable, str(ROOT / f"{script}.py"), "--config", config, *sets] for script in SCRIPTS]

    def merged() -> dict[int, int]:
        read = read_published(load_config(config, settings)).merged()
        return {bucket.start: users_in(count.total) for bucket, count in read.items()}

    return Job(commands, partial(end, servers, counts), merged)


def main() -> None:
    """Measure, and keep what was found; or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("speed", "kills"):
        command = commands.add_parser(name)
        command.add_argument("--json", type=Path, required=True, help="kept there, with what the other command found")
        command.add_argument("--only", default="", help=f"with commas between: {', '.join([*OURS, *PEERS])}")
    commands.choices["speed"].add_argument("--frames", type=int, default=1_000_000)
    commands.choices["speed"].add_argument("--runs", type=int, default=3)
    commands.choices["kills"].add_argument("--times", type=int, default=10)
    commands.add_parser("table").add_argument("json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"engines": {}}
    if arguments.command == "table":
        print(table(found))
        return
    engines = compared()
    found["engines"] = {name: found["engines"].get(name, {}) for name in engines}
    found |= {"cores": os.cpu_count(), "python": platform.python_version()}
    names = arguments.only.split(",") if arguments.only else list(engines)
    begun: set[str] = set()

    def keep(name: str, result: dict[str, Any]) -> None:
        engine = found["engines"][name]
        if arguments.command == "kills":
            engine["kills"] = result
        else:
            engine["runs"] = [*(engine["runs"] if name in begun else []), result]
            begun.add(name)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {result}", file=sys.stderr, flush=True)

    if arguments.command == "speed":
        found["frames"] = arguments.frames
        speed(names, arguments.frames, arguments.runs, keep)
    else:
        kills([name for name in names if engines[name].durable], arguments.times, keep)


if __name__ == "__main__":
    main()
