"""The scripts as a person runs them: real processes, real topics of their own, in a directory of their own."""

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brokers import config_for
from repository import ROOT, command

from unique_users.commands.published import read_published
from unique_users.event_time.buckets import Bucket
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.reports.bucket_count import BucketCount

SECONDS = 120
CLIENT = os.environ.get("CLIENT", "kafka-python")


@dataclass
class Running:
    """The three scripts against one broker, with topics, groups and state that nobody else has.

    They use the client that the environment names in CLIENT.
    """

    broker: str
    directory: Path
    settings: Sequence[str] = ()
    name: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:10]}")
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def arguments(self, script: str, *arguments: str) -> list[str]:
        settings = [f"client={CLIENT}"]
        settings += [f"kafka.bootstrap_servers={self.broker}", f"state.directory={self.directory / 'state'}"]
        settings += [f"topics.{topic}.name={self.topic(topic)}" for topic in ("feed", "bucketed", "counts", "rejected")]
        settings += [f"{script}.group={self.name}-{script}" for script in ("bucketer", "counter")]
        flags = [flag for setting in (*settings, *self.settings) for flag in ("--set", setting)]
        config = ["--config", str(ROOT / "config.yaml")]
        return command(script, *arguments, *config, *flags)

    def topic(self, topic: str) -> str:
        return f"{self.name}-{topic}"

    def published(self) -> dict[Bucket, PublishedBucket]:
        """What every reader of the topic `counts` knows."""
        counts = {"counts": {"name": self.topic("counts")}}
        return read_published(config_for(self.broker, client=CLIENT, topics=counts)).merged()

    def run(self, script: str, *arguments: str, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a script to its end, which has to come with exit code `code`."""
        done = subprocess.run(
            self.arguments(script, *arguments), input=stdin, capture_output=True, timeout=SECONDS, check=False
        )
        text = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
        assert text.returncode == code, f"{script} ended with {text.returncode}:\n{text.stdout}\n{text.stderr}"
        return text

    def start(self, script: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a script that runs until it is stopped; its output goes to files in the directory."""
        out, err = (self.directory / f"{script}.{kind}" for kind in ("out", "err"))
        with out.open("a") as stdout, err.open("a") as stderr:
            process = subprocess.Popen(
                self.arguments(script, *arguments), stdin=stdin, stdout=stdout, stderr=stderr, text=True
            )
        self.processes.append(process)
        return process

    def said(self, script: str, kind: str = "err") -> str:
        return (self.directory / f"{script}.{kind}").read_text()

    def end(self, process: subprocess.Popen[str]) -> int:
        """Ask a script to stop as Ctrl-C does; return its exit code."""
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
        return process.wait(SECONDS)

    def end_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(SECONDS)

    def counts(self) -> dict[int, int]:
        """Re-key and count what is in `feed` now; the counts by the bucket's start."""
        self.run("bucketer", "--until-caught-up")
        return parsed(self.run("counter", "--until-caught-up", "--format", "json").stdout)

    def recount(self, frames: bytes) -> dict[int, int]:
        return parsed(self.run("recount", "-", "--format", "json", stdin=frames).stdout)


def parsed(json_lines: str) -> dict[int, int]:
    """The counts in JSON lines, by the start of the bucket."""
    lines = [json.loads(line) for line in json_lines.splitlines()]
    counts = [BucketCount.parsed(line) for line in lines if "start" in line]
    return {count.start: count.unique_users for count in counts}
