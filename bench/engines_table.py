"""What bench/engines.py found, in Markdown."""

import statistics
from collections.abc import Mapping
from typing import Any

HEAD = (
    "| | CPU µs/frame | frames/s | launch to all counts | MB | code | settings | late and bad frames | after kills |",
    "|---|---|---|---|---|---|---|---|---|",
)


def table(found: Mapping[str, Any]) -> str:
    """A row for each engine that was measured: medians, and the largest memory."""
    return "\n".join([*HEAD, *(_row(engine) for engine in found["engines"].values() if "runs" in engine)])


def _row(engine: Mapping[str, Any]) -> str:
    runs = engine["runs"]
    cost, rate, wall = (
        statistics.median(run[what] for run in runs)
        for what in ("cpu_us_per_frame", "frames_per_second", "launch_seconds")
    )
    cells = [
        engine["title"],
        f"{cost:.1f}",
        f"{rate:,.0f}",
        f"{wall:.1f} s",
        f"{max(run['peak_mb'] for run in runs):,.0f}",
        f"{engine['lines'] or 'none'}",
        str(engine["settings"]),
        "exact" if all(run["exact"] for run in runs) else "WRONG",
        _kills(engine),
    ]
    return f"| {' | '.join(cells)} |"


def _kills(engine: Mapping[str, Any]) -> str:
    if not engine["durable"]:
        return "no: nothing durable"
    if "kills" not in engine:
        return "not tried"
    killed = engine["kills"]
    return f"exact after {killed['kills']}" if killed["exact"] else f"WRONG in {killed['wrong_minutes']} minutes"
