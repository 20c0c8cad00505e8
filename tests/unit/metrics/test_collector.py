"""What is scraped: what the operating system tells is looked at beforehand."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from brokers import config_for
from prometheus_client import generate_latest

from unique_users.metrics.collector import registry_of
from unique_users.metrics.monitor import Monitor


def test_a_scrape_tells_what_the_system_said_at_the_last_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = [100]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    monitor = Monitor(config_for("fake:1", state={"directory": str(tmp_path)}), "counter")
    registry, system = registry_of(monitor)
    for now, said in ((100, 100.0), (50, 100.0)):
        free[0] = now
        assert f"unique_users_state_free_bytes {said}\n" in generate_latest(registry).decode()
    system.look()
    assert "unique_users_state_free_bytes 50.0\n" in generate_latest(registry).decode()


def test_a_process_without_a_state_tells_of_no_disk() -> None:
    registry, _ = registry_of(Monitor(config_for("fake:1"), "bucketer"))
    assert b"state_free_bytes" not in generate_latest(registry)
