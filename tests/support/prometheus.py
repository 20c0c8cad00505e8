"""A real Prometheus, a real Alertmanager, and a webhook that takes what it sends. Debian has all of them."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import patience
import pytest
import yaml
from repository import ROOT

from unique_users.local_kafka.broker import free_port

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
JOB = "unique-users-{}"


def binary(*names: str) -> str:
    """Where a program is. Without it the tests are skipped, unless EXPECT_PROMETHEUS is set."""
    path = next(filter(None, map(which, names)), "")
    if not path:
        assert not os.environ.get("EXPECT_PROMETHEUS"), f"install {names[0]}"
        pytest.skip(f"no {names[0]}: install the packages prometheus and prometheus-alertmanager")
    return path


def with_for_scaled(rules: str, factor: float) -> str:
    """Rules whose every `for` takes `factor` of its time; nothing else is changed."""
    tree = yaml.safe_load(rules)
    for rule in (rule for group in tree["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = f"{max(1, round(seconds_of(rule['for']) * factor))}s"
    return yaml.safe_dump(tree, sort_keys=False)


def seconds_of(duration: str) -> float:
    """The seconds of a duration like 1m30s."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    return float(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration)))


class _Server:
    """A program that serves at a port of its own until it is closed. A context manager."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self, *line: str) -> None:
        log = self.directory / "log"
        with log.open("wb") as said:
            self._process = subprocess.Popen(line, cwd=self.directory, stdout=said, stderr=said)
        process = self._process
        until(self._is_ready, lambda: f"it to be ready: {log.read_text()}", give_up=lambda: process.poll() is not None)

    def _is_ready(self) -> bool:
        with urlopen(f"{self.address}/-/ready", timeout=5):
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(patience.LIMIT_SECONDS)


class Prometheus(_Server):
    """Scrapes `targets`, ports by job, and evaluates rules. What is in the directory `data` is its past."""

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, int],
        rules: str = "",
        *,
        every: str = "1s",
        alertmanager: str = "",
        arguments: Iterable[str] = (),
    ) -> None:
        super().__init__(directory)
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()
        ]
        tree: dict[str, Any] = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "scrape_configs": jobs,
        }
        if rules:
            (directory / "rules.yml").write_text(rules)
            tree["rule_files"] = ["rules.yml"]
        if alertmanager:
            tree["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        (directory / "prometheus.yml").write_text(yaml.safe_dump(tree))
        self._start(
            binary("prometheus"),
            "--config.file=prometheus.yml",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--storage.tsdb.path={directory / 'data'}",
            *arguments,
        )

    def ask(self, path: str, **parameters: Any) -> Any:
        """The data of an answer of its API. Raises OSError, and AssertionError if it is an error."""
        with urlopen(f"{self.address}/api/v1/{path}?{urlencode(parameters)}", timeout=60) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def firing(self) -> list[dict[str, str]]:
        """The labels of each alert that fires now."""
        return [alert["labels"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]


class Alertmanager(_Server):
    """Sends every alert on to a webhook, at once."""

    def __init__(self, directory: Path, webhook: str) -> None:
        super().__init__(directory)
        tree = {
            "route": {"receiver": "test", "group_by": ["..."], "group_wait": "1s", "group_interval": "1s"},
            "receivers": [{"name": "test", "webhook_configs": [{"url": webhook, "send_resolved": True}]}],
        }
        (directory / "alertmanager.yml").write_text(yaml.safe_dump(tree))
        self._start(
            binary("alertmanager", "prometheus-alertmanager"),
            "--config.file=alertmanager.yml",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--storage.path={directory / 'data'}",
            "--cluster.listen-address=",
        )


class Webhook:
    """Takes what Alertmanager sends: `alerts` are all that arrived, in their order. A context manager."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        taken = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                taken.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def states(self, alert: str) -> list[str]:
        """What was told of an alert: `firing` or `resolved`, in this order."""
        return [each["status"] for each in list(self.alerts) if each["labels"]["alertname"] == alert]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def until(
    condition: Callable[[], Any], what: str | Callable[[], object], give_up: Callable[[], bool] = lambda: False
) -> Any:
    """Wait for what is true of a condition. A server that does not answer means not yet."""

    def answered() -> Any:
        with suppress(URLError, OSError):
            return condition()

    return patience.until(answered, what, give_up=give_up)
