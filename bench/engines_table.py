"""What bench/engines.py found, in Markdown."""

import statistics
from collections.abc import Mapping
from typing import Any

from compared import Compared, compared

HEAD = (
    "| | CPU µs/frame | frames/s | launch to all counts | MB | code | settings | late and bad frames | after kills |",
    "|---|---|---|---|---|---|---|---|---|",
)


def table(found: Mapping[str, Any]) -> str:
    """A row for each engine that was measured: medians, and the largest memory."""
    measured = ((engine, found["engines"].get(name, {})) for name, engine in compared().items())
    return "\n".join([*HEAD, *(_row(engine, results) for engine, results in measured if "runs" in results)])


def _row(engine: Compared, results: Mapping[str, Any]) -> str:
    runs = results["runs"]
    cost, rate, wall = (
        statistics.median(run[what] for run in runs)
        for what in ("cpu_us_per_frame", "frames_per_second", "launch_seconds")
    )
    cells = [
        engine.title,
        f"{cost:.1f}",
        f"{rate:,.0f}",
        f"{wall:.1f} s",
        f"{max(run['peak_mb'] for run in runs):,.0f}",
        str(engine.lines),
        str(runs[-1]["settings"]),
        "exact" if all(run["exact"] for run in runs) else "WRONG",
        _kills(engine, results),
    ]
    return f"| {' | '.join(cells)} |"


def _kills(engine: Compared, results: Mapping[str, Any]) -> str:
    if not engine.durable:
        return "no: nothing durable"
    if "kills" not in results:
        return "not tried"
    killed = results["kills"]
    again = statistics.median(killed["seconds_to_counts"][1:])
    verdict = "exact" if killed["exact"] else f"WRONG in {killed['wrong_minutes']} minutes"
    return f"{verdict}, {again:.1f} s to the next count"
