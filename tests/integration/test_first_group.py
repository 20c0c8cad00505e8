"""What is asked of a group on a broker that has none yet, and makes their topic at this moment."""

import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

from unique_users.local_kafka.broker import LocalKafka, free_port

ASK = """
import sys
from unique_users.clients.connect import get_admin
from unique_users.config.load import load_config
from unique_users.errors import BrokerAwayError
admin = None
for _ in range(50):
    try:
        admin = admin or get_admin(load_config("config.yaml", sys.argv[2:]))
        assert admin.committed(sys.argv[1], "feed") == {}
        break
    except BrokerAwayError:
        pass
else:
    sys.exit("no answer")
"""


@pytest.mark.slow
@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
def test_an_admin_survives_a_coordinator_that_is_not_ready(client: str, tmp_path: Path) -> None:
    with LocalKafka("4.3.1", tmp_path / "data", free_port()) as kafka:
        settings = [f"client={client}", f"kafka.bootstrap_servers={kafka.bootstrap_servers}"]
        command = [sys.executable, "-c", ASK]
        asking = [subprocess.Popen([*command, f"group-{number}", *settings], cwd=ROOT) for number in range(6)]
        assert [process.wait(120) for process in asking] == [0] * len(asking)
