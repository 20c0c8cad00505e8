"""A broker with TLS, passwords and rights, and the scripts as one user each, with no right but the documented ones."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest
from patience import until
from repository import ROOT, command
from running import CLIENT, Running, parsed
from secured import GRANTS, error_lines, login, secrets

from unique_users.demo.sample import frames
from unique_users.local_kafka.broker import LocalKafka
from unique_users.local_kafka.cluster import LocalCluster
from unique_users.local_kafka.probe import free_port
from unique_users.local_kafka.security import Security

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a dozen Java tools, each of which takes seconds
CLIENTS = ["kafka-python", "librdkafka"]
FRAMES = b"\n".join(frames(2_000)) + b"\nnot a frame\n"


class Secured:
    """A secured broker or cluster, and the scripts as its users."""

    def __init__(self, kafka: LocalKafka | LocalCluster, security: Security, directory: Path) -> None:
        self.kafka = kafka
        self.security = security
        self.directory = directory

    def running(self, user: str, client: str = CLIENT, name: str = "", **settings: object) -> Running:
        """The scripts as `user`, with other `kafka:` settings on top."""
        kafka = {**login(self.security, user), **settings}
        flags = [f"kafka.{key}={value}" for key, value in kafka.items() if value is not None]
        made = Running(self.kafka.bootstrap_servers, self.directory, [f"client={client}", *flags])
        made.name = name or made.name
        return made

    def tool(self, name: str, *arguments: str) -> str:
        """One of Kafka's own tools, as the administrator."""
        settings = f"kafka.bootstrap_servers={self.kafka.bootstrap_servers}"
        line = [*command("broker"), "--config", str(ROOT / "config.yaml"), "--set", settings]
        line += ["--set", f"broker.data={self.kafka.data}", "tool", name, *arguments]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def revoke(self, *right: str) -> None:
        """Take a right away, and wait until the broker knows."""
        self.tool("kafka-acls", "--remove", "--force", *right)
        named = [right[place] for place in range(1, len(right)) if right[place - 1] in {"--topic", "--group"}]
        lists = [part for name in named for part in ("--topic" if "--topic" in right else "--group", name)]
        operation = right[right.index("--operation") + 1]
        shown = re.sub("(?<=[a-z])(?=[A-Z])", "_", operation).upper()
        listed = partial(self.tool, "kafka-acls", "--list", "--principal", right[1], *lists)
        until(lambda: f"operation={shown}" not in listed(), "the broker to know")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    security = Security(directory / "data" / "secure")
    with LocalKafka("4.3.1", directory / "data", free_port(), security=security) as kafka:
        yield Secured(kafka, security, directory)


def only_line(stderr: str) -> str:
    """The one line of an error; a script may have said before that it waits."""
    errors = error_lines(stderr)
    assert len(errors) == 1, stderr
    assert "Traceback" not in stderr
    return errors[0]


@pytest.mark.parametrize("client", CLIENTS)
def test_wrong_logins_end_with_one_line_and_read_and_write_nothing(
    secured: Secured, client: str, tmp_path: Path
) -> None:
    other_ca = tmp_path / "other"
    other_ca.mkdir()
    Security(other_ca / "secure").make("localhost:1", other_ca)
    no_tls = dict.fromkeys(["ssl_cafile", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"])
    cases: dict[str, tuple[dict[str, object], str]] = {
        "wrong password": ({"sasl_plain_password": "wrong-and-secret"}, "refuses"),
        "another authority": ({"ssl_cafile": other_ca / "secure" / "ca.pem"}, "is not trusted|handshake failed"),
        "no TLS": ({"security_protocol": "PLAINTEXT", **no_tls}, "requires TLS"),
    }
    name = f"wrong-{client}"
    for case, (settings, said) in cases.items():
        done = secured.running("admin", client, name, **settings).run("producer", "-", stdin=FRAMES, code=1)
        assert re.search(said, only_line(done.stderr)), case
        assert not [
            secret for secret in {*secrets(secured.security), "wrong-and-secret"} if secret in done.stderr + done.stdout
        ]
    assert name not in secured.tool("kafka-topics", "--list")


@pytest.fixture(scope="module")
def granted(secured: Secured) -> str:
    """The name before topics and groups, which the administrator made, for which the documented rights are granted."""
    admin = secured.running("admin")
    admin.run("bucketer", "--until-caught-up")
    admin.run("counter", "--until-caught-up")
    refused = secured.running("producer", name=admin.name).run("producer", "-", stdin=FRAMES, code=1)
    assert "refuses" in only_line(refused.stderr)
    for grant in GRANTS:
        words = shlex.split(grant)
        for place, word in enumerate(words):
            if words[place - 1] in {"--topic", "--group"}:
                words[place] = f"{admin.name}-{word}"
        secured.tool("kafka-acls", *words)
    return admin.name


@pytest.mark.parametrize("client", CLIENTS)
def test_each_script_works_as_a_user_with_the_documented_rights_alone(
    secured: Secured, granted: str, client: str
) -> None:
    users = {user: secured.running(user, client, granted) for user in ("producer", "bucketer", "counter", "recount")}
    users["producer"].run("producer", "-", stdin=FRAMES)
    bucketed = users["bucketer"].run("bucketer", "--until-caught-up")
    counted = users["counter"].run("counter", "--until-caught-up", "--format", "json")
    assert parsed(counted.stdout) == users["producer"].recount(FRAMES)
    assert "not checked" not in bucketed.stderr + counted.stderr
    file = secured.directory / "frames.json"
    file.write_bytes(FRAMES)
    users["recount"].run("recount", str(file), "--against", "counts")
    assert "not_json" in users["recount"].run("rejected").stdout
    assert "sent to feed again" in users["recount"].run("rejected", "--replay").stdout
    refused = users["counter"].run("producer", "-", stdin=FRAMES, code=1)
    assert "check the rights" in only_line(refused.stderr)
    assert not said_by_brokers(secured)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_page_works_as_a_user_with_the_documented_rights_alone(secured: Secured, granted: str, client: str) -> None:
    secured.running("producer", client, granted).run("producer", "-", stdin=FRAMES)
    secured.running("bucketer", client, granted).run("bucketer", "--until-caught-up")
    secured.running("counter", client, granted).run("counter", "--until-caught-up")
    page = secured.running("recount", client, granted)
    page.settings = [*page.settings, "dashboard.port=0"]
    (secured.directory / "dashboard.err").unlink(missing_ok=True)
    process = page.start("dashboard")
    try:
        said = until(lambda: re.search(r"http://\S+/", page.said("dashboard")), "its address")

        def knows() -> bool:
            with urlopen(f"{said[0]}api/now", timeout=60) as answer:
                now = json.load(answer)
            return now["complete"] and bool(now["read"]) and bool(now["intervals"]["minute"]["open"])

        until(knows, "the page to know the counts")
        assert page.said("dashboard").count("\n") == 1, page.said("dashboard")
        assert page.end(process) == 0
    finally:
        page.end_all()


@pytest.mark.parametrize("client", CLIENTS)
def test_who_may_not_read_settings_is_told_so_in_one_line_and_counts_all_the_same(
    secured: Secured, granted: str, client: str
) -> None:
    topics = [word for name in ("bucketed", "counts") for word in ("--topic", f"{granted}-{name}")]
    right = ["--allow-principal", "User:counter", "--operation", "DescribeConfigs", *topics]
    secured.running("producer", client, granted).run("producer", "-", stdin=FRAMES)
    secured.running("bucketer", client, granted).run("bucketer", "--until-caught-up")
    secured.revoke(*right)
    counter = secured.running("counter", client, granted)
    counted = counter.run("counter", "--until-caught-up", "--format", "json")
    secured.tool("kafka-acls", "--add", *right)
    lines = [line for line in counted.stderr.splitlines() if "not checked" in line]
    assert len(lines) == 1, counted.stderr
    (line,) = lines
    assert f"'{granted}-bucketed', '{granted}-counts' are not checked: that needs the right DescribeConfigs" in line
    assert parsed(counted.stdout) == counter.recount(FRAMES)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_counter_that_may_not_see_the_bucketers_says_so_and_counts_all_the_same(
    secured: Secured, granted: str, client: str
) -> None:
    right = ["--allow-principal", "User:counter", "--operation", "Describe", "--group", f"{granted}-bucketer"]
    secured.running("producer", client, granted).run("producer", "-", stdin=FRAMES)
    secured.running("bucketer", client, granted).run("bucketer", "--until-caught-up")
    secured.revoke(*right)
    counter = secured.running("counter", client, granted)
    counted = counter.run("counter", "--until-caught-up", "--format", "json")
    secured.tool("kafka-acls", "--add", *right)
    (line,) = [line for line in counted.stderr.splitlines() if "cannot see" in line]
    assert "no bucket is closed" in line
    assert parsed(counted.stdout) == counter.recount(FRAMES)


def said_by_brokers(secured: Secured) -> list[str]:
    """The secrets in the logs of the brokers, of which each has one."""
    logs = list(secured.kafka.data.rglob("kafka.log"))
    assert logs
    texts = [log.read_text(encoding="utf-8", errors="replace") for log in logs]
    return [secret for secret in secrets(secured.security) if any(secret in text for text in texts)]


def test_a_secured_cluster_lets_the_same_users_in_when_one_of_its_nodes_is_killed(tmp_path: Path) -> None:
    security = Security(tmp_path / "data" / "secure")
    with LocalCluster("4.3.1", tmp_path / "data", free_port(), 3, security=security) as cluster:
        secured = Secured(cluster, security, tmp_path)
        admin = secured.running("admin")
        admin.settings = [
            *admin.settings,
            *(f"topics.{topic}.replication=3" for topic in ("feed", "bucketed", "counts", "rejected")),
        ]
        admin.run("producer", "-", stdin=FRAMES)
        cluster.nodes[1].kill()
        assert admin.counts() == admin.recount(FRAMES)
        wrong = secured.running("admin", sasl_plain_password="wrong-and-secret").run("counter", code=1)
        assert "refuses" in only_line(wrong.stderr)
        assert not said_by_brokers(secured)


def test_the_files_with_passwords_are_for_their_owner_alone(secured: Secured) -> None:
    if os.name == "posix":
        modes = {path.name: path.stat().st_mode & 0o077 for path in secured.security.directory.iterdir()}
        assert {name for name, mode in modes.items() if mode} <= {"ca.pem"}
