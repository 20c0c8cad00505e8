"""Injects each fault that alerts are for, and looks which alert fires after how long, and what else is said.

Exit code 0 only if each fault fires what it must, and no fault fires an alert that is another's. Needs root, to mount
a small disk for the state that becomes full.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from repository import ROOT, command

sys.path.insert(0, str(ROOT / "tests" / "faults"))
from alert_cases import CASES, Case, Scene
from harness import end_in_order_when_terminated

from unique_users.commands import COMMANDS

DOCUMENT = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- alerts -->\n", "<!-- alerts end -->\n"
FOR_SCALE = 0.2  # of each `for`; the ranges and bounds in the expressions are as they are
HOLD_SECONDS = 400.0  # longer than any rule takes then: 5 minutes of its range and a minute of its `for`
LOOK_SECONDS = 1.0
DOCTOR_SECONDS = 120.0  # after the fault; each process has noticed it by then
WORDS_MAX = 150
COMPLAINT = re.compile(r"WARNING|ERROR|^error:|: waiting for")
EXAMPLE = re.compile("explaining: rejected|did not stop")
NO_REPORT = "its reports have ended"


def attempt(case: Case, directory: Path) -> dict[str, Any]:
    """Inject a fault, hold it, and return what was seen."""
    found: dict[str, Any] = {"fault": case.fault, "fired": {}, "doctor": [], "said": [], "problems": []}
    try:
        with Scene(directory, FOR_SCALE, secured=case.secured, small_disk=case.small_disk) as scene:
            if early := scene.prometheus.firing():
                found["problems"].append(f"fired before: {early}")
            began = time.monotonic()
            case.inject(scene)
            hold(scene, began, found)
            found["said"] = [f"{case.tells}: {words(scene, case.tells, began)}"]
    except Exception as error:  # noqa: BLE001 - the other faults go on
        found["problems"].append(f"{type(error).__name__}: {error}")
    for who in "doctor", "said":
        found[who] = [plain(line, directory) for line in found[who]]
    names = {name.split(" ")[0] for name in found["fired"]}
    found["problems"] += [f"silent: {name}" for name in sorted(case.fires - names)]
    found["problems"] += [f"another's: {name}" for name in sorted(names - case.fires - case.also)]
    print(json.dumps(found, indent=2), flush=True)
    return found


def hold(scene: Scene, began: float, found: dict[str, Any]) -> None:
    """Note each alert when it fires first; meanwhile the doctor looks."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(doctor, scene, began + DOCTOR_SECONDS)
        while (passed := time.monotonic() - began) < HOLD_SECONDS:
            for labels in scene.prometheus.firing():
                where = " ".join(labels[name] for name in ("job", "partition") if name in labels)
                found["fired"].setdefault(f"{labels['alertname']} {where}".strip(), round(passed))
            time.sleep(LOOK_SECONDS)
        found["doctor"] = asked.result()


def doctor(scene: Scene, at: float) -> list[str]:
    """What is wrong at this time, in the doctor's words."""
    time.sleep(max(0.0, at - time.monotonic()))
    if "doctor" not in COMMANDS:
        return ["not asked"]
    system = scene.observed.system
    over = [part for setting in scene.faulty for part in ("--set", setting)]
    line = command("doctor", "--config", str(system.directory / "config.yaml"), "--json", *over)
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
    findings = json.loads(done.stdout)["findings"]
    by_status: dict[str, list[str]] = {"wrong": [], "warning": []}
    for each in findings:
        by_status.setdefault(each["status"], []).append(f"{each['check']}: {each['says']}")
    return by_status["wrong"] or by_status["warning"] or ["all is well"]


def words(scene: Scene, process: str, began: float) -> str:
    """What a process says since then: the first line of its log that is a complaint, or its last report."""
    workers = [worker for worker in scene.observed.system.workers if worker.name == process]
    logged = [line.text for worker in workers for line in worker.said if line.at > began]
    if complaints := [line for line in logged if COMPLAINT.search(line) and not EXAMPLE.search(line)]:
        return complaints[0]
    late, lines = began + HOLD_SECONDS / 2, workers[-1].lines
    reports = [n for n, line in enumerate(lines) if "  report  " in line.text and line.at > late]
    return "; ".join(line.text.strip() for line in lines[reports[-1] :]) if reports else NO_REPORT


def plain(line: str, directory: Path) -> str:
    """A line without its time, and without what only this run has in its names."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z\s+", "", line.replace(str(directory), "…"))
    return re.sub(r"(feed|bucketed|counts|rejected|bucketer|counter)-[0-9a-f]{10}\b", r"\1", line)


def with_table(text: str, rows: list[dict[str, Any]]) -> str:
    """The document with the table of what was seen."""
    lines = [
        "",
        "| fault | alert, after seconds | what the doctor says | what its log or report says |",
        "|---|---|---|---|",
    ]
    for row in rows:
        fired = ", ".join(f"`{name.split(' ')[0]}` {seconds}" for name, seconds in row["fired"].items()) or "none"
        lines.append(f"| {row['fault']} | {fired} | {shown(row['doctor'])} | {shown(row['said'])} |")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n".join([*lines, "", ""]) + END + after


def shown(said: list[str]) -> str:
    """Words for a cell."""
    said = [re.sub(r"\s+", " ", line) for line in said]
    short = (f"{line[:WORDS_MAX]}…" if len(line) > WORDS_MAX else line for line in said)
    return "; ".join(f"`{line}`" for line in short).replace("|", "\\|")


def main() -> int:
    """Exit code 0 only if all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=2, help="how many faults side by side")
    parser.add_argument("--only", default="", help="a part of the fault's name")
    parser.add_argument("--json", type=Path, default=Path("alerts.json"), help="what was seen")
    parser.add_argument("--write", action="store_true", help="write the table in docs/operations.md, and do not run")
    arguments = parser.parse_args()
    if not arguments.write:
        cases = [case for case in CASES if arguments.only in case.fault]
        with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(arguments.at_once) as pool:
            directories = [Path(place) / str(number) for number in range(len(cases))]
            rows = list(pool.map(attempt, cases, directories))
        arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    rows = json.loads(arguments.json.read_text(encoding="utf-8"))
    if arguments.write:
        DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return 1 if any(row["problems"] for row in rows) else 0


if __name__ == "__main__":
    end_in_order_when_terminated()
    sys.exit(main())
