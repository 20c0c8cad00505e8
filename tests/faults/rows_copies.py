"""Row 26: a state that is copied while it is written, and restored later."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

from harness import Run, row
from repository import ROOT
from repository import command as command_line
from system import System
from worker import Worker

from unique_users.errors import StateError
from unique_users.state.backups import checked, states_in

COMMAND_SECONDS = 60


@row(26, "state copied while it is written, and restored later")
def copied_and_restored(run: Run) -> None:
    """Each turn takes copies while frames are counted, kills the counter and restores one of all that there are."""
    turns, frames = run.scale(2, 6), run.sample(run.scale(4_000, 40_000))
    size = len(frames) // turns
    with run.system({"counter": {"save_seconds": 0.05, "publish_seconds": 0.05}}) as system:
        system.start_bucketer()
        counter = system.start_counter()
        taken: list[Path] = []
        for turn in range(turns):
            producer = system.start_producer(frames[turn * size :][: size if turn < turns - 1 else None], rate=size / 2)
            system.until(lambda: any(system.state.glob("*.sqlite")), "a state")
            for number in range(run.scale(2, 3)):
                run.pause(0.1, 0.6)
                if command(run, system, "backup", to := system.directory / f"backup{turn}-{number}") == 0:
                    taken.append(to)
                run.inject()
            raw = system.directory / f"raw{turn}"
            shutil.copytree(system.state, raw)
            run.expect(producer.wait() == 0, "producer failed")
            counter.kill()
            restore(run, system, run.random.choice(taken))
            restore_raw(run, system, raw)
            counter = system.start_counter()
        system.until_bucketed()
        # The group has committed more than the restored state holds: what it has left says nothing.
        system.until(partial(has_read_all, counter), "the counter to have read all again")
        run.expect(len(taken) >= turns, f"only {len(taken)} backups succeeded")
        run.verify(system, frames)


def has_read_all(counter: Worker) -> bool:
    """Whether a counter has said that nothing is left to read behind its own position."""
    return any(report["partitions"] and report["lag"] == 0 for _, report in counter.reports())


def restore(run: Run, system: System, copy: Path) -> None:
    """A backup is whole, whatever was written while it was made."""
    run.inject(kill=True)
    for action in ("check", "restore"):
        run.expect(command(run, system, action, copy) == 0, f"{action} {copy.name} failed")


def restore_raw(run: Run, system: System, raw: Path) -> None:
    """Files that were copied one after the other while they were written are whole, or refused as damaged."""
    run.inject()
    before = system.state_file().read_bytes()
    try:
        for state in states_in(raw, system.config.topics.bucketed.name):
            checked(state)
    except StateError:
        run.expect(command(run, system, "restore", raw) == 1, "a damaged copy was restored")
        run.expect(system.state_file().read_bytes() == before, "a damaged copy changed the state")
    else:
        run.expect(command(run, system, "restore", raw) == 0, "a whole copy was refused")


def command(run: Run, system: System, *arguments: str | Path) -> int:
    """Run a command on the system's states; return its exit code."""
    line = [*command_line("state", *map(str, arguments)), "--config", str(system._path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    run.expect("Traceback" not in done.stderr, done.stderr[-800:])
    return done.returncode
