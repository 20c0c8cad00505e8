"""Row 16: who comes to a secured broker that is away, with a wrong login, or loses its rights."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness import BROKER_PROPERTIES, Run, row
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from live import Live
from secured import Right, documented_rights, error_lines, login, secrets
from system import System
from worker import Worker

from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.local_kafka.security import Security

RATE = 200  # frames a second, while rights are lost
SCRIPTS = ("producer", "bucketer", "counter")
WRONG_PASSWORD = "wrong-and-secret"
# The right that a script uses all the time; without it, it must end.
LOST = [
    ("producer", "Write", "feed"),
    ("bucketer", "Read", "feed"),
    ("bucketer", "Write", "bucketed"),
    ("bucketer", "Read", "bucketer"),
    ("counter", "Read", "bucketed"),
    ("counter", "Write", "counts"),
    ("counter", "Read", "counter"),
]


class Secured(NamedTuple):
    """A broker with a door for the scripts, with TLS, passwords and rights, and one for the harness, without."""

    kafka: LocalKafka
    security: Security
    open_address: str

    def settings(self, user: str, **other: object) -> list[str]:
        """What makes a script come to the scripts' door as `user`; None leaves a setting out."""
        kafka = {"bootstrap_servers": self.kafka.bootstrap_servers, **login(self.security, user), **other}
        return [f"kafka.{name}={value}" for name, value in kafka.items() if value is not None]


def secured_broker(directory: Path) -> Secured:
    """One that is not started yet; its certificates and passwords are there."""
    port, opened, controller = free_port(), free_port(), f"localhost:{free_port()}"
    listeners = f"SASL_SSL://localhost:{port},PLAINTEXT://localhost:{opened}"
    properties = {
        "listeners": f"{listeners},CONTROLLER://{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:SASL_SSL",
        "controller.quorum.voters": f"1@{controller}",
        "super.users": "User:admin;User:ANONYMOUS",
    }
    directory.mkdir(parents=True)
    security = Security(directory / "secure")
    kafka = LocalKafka(
        "4.3.1", directory, port, heap="512m", properties={**BROKER_PROPERTIES, **properties}, security=security
    )
    security.make(kafka.bootstrap_servers, directory)
    return Secured(kafka, security, f"localhost:{opened}")


@row(16, "secured broker away at start; wrong password, authority, protocol; rights lost")
def refused(run: Run) -> None:
    secured = secured_broker(run.directory / "kafka")
    frames = run.sample(run.scale(2_000, 10_000))
    with run.system(broker=secured.open_address, broker_runs=False) as system:
        try:
            away_at_start(run, system, secured, frames)
            wrong_logins(run, system, secured)
            frames += rights_lost(run, system, secured)
            run.verify(system, frames)
        finally:
            secured.kafka.stop()
        said = "\n".join(line.text for worker in system.workers for line in (*worker.lines, *worker.said))
        log = (secured.kafka.data / "logs" / "kafka.log").read_text(encoding="utf-8", errors="replace")
        found = [secret for secret in {*secrets(secured.security), WRONG_PASSWORD} if secret in said + log]
        run.expect(not found, f"{len(found)} secrets were said")


def away_at_start(run: Run, system: System, secured: Secured, frames: Sequence[bytes]) -> None:
    """The scripts wait, say so, and go on when the broker is there."""
    run.inject()
    as_admin = secured.settings("admin")
    producer = system.start_producer(frames, settings=as_admin)
    workers = [producer, system.start_bucketer(settings=as_admin), system.start_counter(settings=as_admin)]
    system.until(lambda: all("waiting for a Kafka broker" in w.complaints for w in workers), "all to say they wait")
    run.pause(0, 2)
    secured.kafka.start()
    if system.behind:
        system.put_backlog()
    code = producer.wait()
    run.expect(code == 0, f"producer ended with {code}: {producer.complaints}")
    system.until_caught_up()
    for worker in workers:
        run.expect("the broker answers, going on" in worker.complaints, f"{worker.name} said {worker.complaints}")
    for worker in workers[1:]:
        run.expect_end(worker, worker.end())


def wrong_logins(run: Run, system: System, secured: Secured) -> None:
    """Each script ends with one line, and has read and written nothing."""
    other = secured.kafka.data / "other"
    other.mkdir()
    Security(other / "secure").make("localhost:1", other)
    no_login = dict.fromkeys(["ssl_cafile", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"])
    cases: dict[str, dict[str, object]] = {
        "refuses": {"sasl_plain_password": WRONG_PASSWORD},
        "is not trusted|handshake failed": {"ssl_cafile": other / "secure" / "ca.pem"},
        "requires TLS": {"security_protocol": "PLAINTEXT", **no_login},
        "does not speak TLS|PLAINTEXT": {"bootstrap_servers": secured.open_address},
    }
    before = state(system)
    frames = run.sample(100)
    workers: list[tuple[Worker, str]] = []
    for said, settings in cases.items():
        wrong = secured.settings("admin", **settings)
        workers += [
            (system.start_producer(frames, settings=wrong), said),
            (system.start_bucketer(settings=wrong), said),
            (system.start_counter(settings=wrong), said),
        ]
    for worker, said in workers:
        run.inject()
        expect_one_line(run, worker, said)
    run.expect(state(system) == before, f"a wrong login changed {before} to {state(system)}")


def expect_one_line(run: Run, worker: Worker, said: str) -> None:
    """The worker ends by itself with exit code 1 and one error, which says so."""
    code = worker.wait(60)
    errors = error_lines(worker.complaints)
    holds = code == 1 and len(errors) == 1 and re.search(said, errors[0]) is not None
    run.expect(holds, f"{worker.name} ended with {code}, expected one line with {said!r}: {worker.complaints[-800:]}")


def state(system: System) -> dict[str, dict[int, int]]:
    """All that reading and writing would change."""
    config = system.config
    topics = config.topics.feed, config.topics.bucketed, config.topics.counts, config.topics.rejected
    found = {topic.name: system.high_watermark_offsets(topic.name) for topic in topics}
    for group, topic in ((config.bucketer.group, topics[0]), (config.counter.group, topics[1])):
        found[group] = system.committed(group, topic.name)
    return found


def rights_lost(run: Run, system: System, secured: Secured) -> list[bytes]:
    """Who loses a right ends with one line; with it again, it goes on. Returns the frames that were sent."""
    rights = [right for right in documented_rights() if right.name in names(system)]
    answers = system.admin.create_acls([acl(system, right) for right in rights])
    run.expect(not answers["failed"], f"rights were not granted: {answers}")
    start: dict[str, Callable[[], Worker]] = {
        "bucketer": partial(system.start_bucketer, settings=secured.settings("bucketer")),
        "counter": partial(system.start_counter, settings=secured.settings("counter")),
    }
    running = {script: begin() for script, begin in start.items()}
    sent: list[bytes] = []
    for lost in run.scale([run.random.choice([way for way in LOST if way[0] == script]) for script in SCRIPTS], LOST):
        # They come until the right is there again: who has nothing to do does not notice what it may not do.
        frames = Live(run, system, RATE, secured.settings("producer"))
        written = system.written(system.config.topics.counts.name)
        system.until(partial(_more_than, system, written), "a count")
        run.pause(0, 1)
        run.inject()
        (right,) = [right for right in rights if right[:2] + right[3:4] == lost]
        system.admin.delete_acls([acl_filter(system, right)])
        expect_one_line(run, {**running, "producer": frames.producer}[right.user], "rights")
        system.admin.create_acls([acl(system, right)])
        if right.user == "producer":
            frames.end()
            sent += (given := list(frames.sent))
            again = system.start_producer(given, settings=secured.settings("producer"))
            code = again.wait()
            run.expect(code == 0, f"producer ended with {code}: {again.complaints}")
        else:
            running[right.user] = start[right.user]()
            frames.end_well()
            sent += frames.sent
    system.until_caught_up()
    return sent


def _more_than(system: System, written: int) -> bool:
    return system.written(system.config.topics.counts.name) > written


def names(system: System) -> dict[str, str]:
    """The system's names of the topics and groups that the documentation names."""
    config = system.config
    topics = {name: getattr(config.topics, name).name for name in ("feed", "bucketed", "counts", "rejected")}
    return {**topics, "bucketer": config.bucketer.group, "counter": config.counter.group}


def acl(system: System, right: Right) -> ACL:
    """The right in the client's words."""
    resource = ResourcePattern(ResourceType[right.resource.upper()], names(system)[right.name])
    return ACL(f"User:{right.user}", "*", operation(right), ACLPermissionType.ALLOW, resource)


def acl_filter(system: System, right: Right) -> ACLFilter:
    """What finds this right alone."""
    resource = ResourcePatternFilter(
        ResourceType[right.resource.upper()], names(system)[right.name], ACLResourcePatternType.LITERAL
    )
    return ACLFilter(f"User:{right.user}", "*", operation(right), ACLPermissionType.ALLOW, resource)


def operation(right: Right) -> ACLOperation:
    return ACLOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", right.operation).upper()]
