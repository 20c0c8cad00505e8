"""What the runs of bench/pipeline.py tell: medians, as lines and as tables in Markdown."""

import statistics
from collections.abc import Mapping
from typing import Any

CPU_PARTS = ("start_cpu_seconds", "cpu_seconds")


def costs(results: Mapping[str, Any], root: str) -> dict[str, float]:
    """The median CPU of a frame in µs, of the scripts in `root` without metrics and of the peers."""
    found: dict[str, list[float]] = {}
    for each in results["pipeline"]:
        if each["root"] == root and not each["metrics"]:
            found.setdefault(each["variant"], []).append(cpu(each))
    for each in results["peers"]:
        found.setdefault(each["peer"], []).append(each["cpu_us_per_frame"])
    return {name: statistics.median(values) for name, values in found.items()}


def summary(result: Mapping[str, Any]) -> str:
    """One run in a line."""
    exact = "exact" if result["exact"] else "WRONG"
    rate = result["frames"] / result["seconds"]
    launch = f"{result['launch_seconds']:.1f} s from launch to counts"
    return f"{result['variant']}: {cpu(result):.1f} µs/frame, {rate:,.0f} frames/s, {launch}, {exact}"


def cpu(result: Mapping[str, Any], *scripts: str) -> float:
    """CPU of these scripts, or of bucketer and counter together, in µs for each frame."""
    return float(
        sum(result[name]["cpu_seconds"] for name in scripts or ("bucketer", "counter")) / result["frames"] * 1e6
    )


def whole_cpu_seconds(result: Mapping[str, Any]) -> float:
    """CPU of bucketer and counter together, from their launch to their ends."""
    return float(sum(result[name][part] for name in ("bucketer", "counter") for part in CPU_PARTS))


def spread(results: Mapping[str, Any]) -> str:
    """What a frame costs over several partitions and processes beside what it costs one of each, in Markdown."""
    lines = ["| variant | bucketers µs/frame | of one's | counters µs/frame | of one's |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(each["variant"] for each in results["pipeline"]):
        runs = [each for each in results["pipeline"] if each["variant"] == name]
        alone = [each for each in results["pipeline"] if each["partitions"] == 1 and name.startswith(each["variant"])]
        cells = []
        for script in ("bucketer", "counter"):
            us, us_alone = (statistics.median(cpu(each, script) for each in some) for some in (runs, alone))
            cells += [f"{us:.2f}", f"{us / us_alone:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cost_of_metrics(results: Mapping[str, Any]) -> str:
    """What a frame costs without and with metrics, and how long a scrape takes, in Markdown."""
    lines = ["| variant | CPU µs/frame: without, with metrics | | scrapes, ms |", "|---|---|---|---|"]
    every: dict[str, list[Any]] = {}
    for each in results["pipeline"]:
        every.setdefault(each["variant"], []).append(each)
    together = [0.0, 0.0]
    for name, runs in every.items():
        if not runs[0]["metrics"]:
            continue
        without = every[name.replace(", metrics", "")]
        costs = [statistics.median(map(cpu, some)) for some in (without, runs)]
        together = [sum(pair) for pair in zip(together, costs, strict=True)]
        took = sorted(seconds * 1e3 for each in runs for seconds in each["scrape_seconds"])
        scrapes = "none"
        if took:
            scrapes = f"{len(took)}: median {statistics.median(took):.1f}, longest {took[-1]:.1f}"
        lines.append(f"| {without[0]['variant']} | {change_in_cost(*costs)} | {scrapes} |")
    return "\n".join([*lines, f"| together | {change_in_cost(*together)} | |"])


def change_in_cost(without: float, with_metrics: float) -> str:
    """Two costs as cells of a table."""
    return f"{without:.2f}, {with_metrics:.2f} | {100 * (with_metrics / without - 1):+.1f} %"


def table(results: Mapping[str, Any]) -> str:
    """The medians, in Markdown."""
    lines = [
        "| variant | runs | frames/s | CPU µs/frame | bucketer | counter | broker | launch s | whole CPU s | MB | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(each["variant"] for each in results["pipeline"]):
        runs = [each for each in results["pipeline"] if each["variant"] == name]
        rate = statistics.median(each["frames"] / each["seconds"] for each in runs)
        costs = [
            statistics.median(cpu(each, *scripts) for each in runs) for scripts in ((), ("bucketer",), ("counter",))
        ]
        broker = statistics.median(each["broker_cpu_seconds"] / each["frames"] * 1e6 for each in runs)
        wall = statistics.median(each["launch_seconds"] for each in runs)
        whole = statistics.median(whole_cpu_seconds(each) for each in runs)
        peaks = (max(each[script]["peak_mb"] for each in runs) for script in ("bucketer", "counter"))
        exact = "yes" if all(each["exact"] for each in runs) else "NO"
        lines.append(
            f"| {name} | {len(runs)} | {rate:,.0f} | {costs[0]:.1f} | {costs[1]:.1f} | {costs[2]:.1f} | {broker:.1f}"
            f" | {wall:.1f} | {whole:.1f} | {' + '.join(f'{peak:.0f}' for peak in peaks)} | {exact} |"
        )
    for client in dict.fromkeys(each["client"] for each in results["producer"]):
        runs = [each for each in results["producer"] if each["client"] == client]
        rate = statistics.median(each["frames"] / each["wall_seconds"] for each in runs)
        cost = statistics.median(each["cpu_seconds"] / each["frames"] * 1e6 for each in runs)
        peak = max(each["peak_mb"] for each in runs)
        lines.append(f"| producer.py, {client} | {len(runs)} | {rate:,.0f} | {cost:.1f} | | | | | | {peak:.0f} | |")
    for name in dict.fromkeys(each["peer"] for each in results["peers"]):
        runs = [each for each in results["peers"] if each["peer"] == name]
        rate, cost = (
            statistics.median(each[what] for each in runs) for what in ("frames_per_second", "cpu_us_per_frame")
        )
        wall, whole = (statistics.median(each[what] for each in runs) for what in ("launch_seconds", "all_cpu_seconds"))
        peak = max(each["peak_mb"] for each in runs)
        exact = "yes" if all(each["exact"] for each in runs) else "NO"
        lines.append(
            f"| {name} | {len(runs)} | {rate:,.0f} | {cost:.1f} | | | | {wall:.1f} | {whole:.1f} | {peak:.0f}"
            f" | {exact} |"
        )
    return "\n".join(lines)
