"""The counts in a real PostgreSQL: what every reader of `counts` says, whatever is killed in between."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from broker_copies import copied, put_back
from harness import new_broker
from msgspec.structs import replace
from postgres_server import PASSWORD, PostgresServer, programs
from repository import ROOT
from system import System
from verdict import expected_counts, published_buckets
from worker import Worker

from unique_users.aggregation.counts import Estimate
from unique_users.config.load import load_config
from unique_users.config.schema import Postgres
from unique_users.demo.sample import frames as sample_frames
from unique_users.event_time.buckets import INTERVALS, Bucket
from unique_users.exports import statements
from unique_users.exports.postgres import PostgresAwayError, Table
from unique_users.exports.progress import Progress
from unique_users.exports.rows import Changes, Row, Source
from unique_users.messages.merged_counts import PublishedBucket
from unique_users.queries.recount import recount

pytestmark = pytest.mark.timeout(400)
SPREAD: dict[str, dict[str, Any]] = {
    "topics": {"bucketed": {"partitions": 2}, "counts": {"partitions": 2}},
    "bucketer": {"partition_by": "uid"},
    "counter": {"estimates": ["month", "year"]},
    "postgres": {"table": "unique_users"},
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server. Without PostgreSQL the tests are skipped, unless EXPECT_POSTGRES is set."""
    if programs() is None:
        assert not os.environ.get("EXPECT_POSTGRES"), "install postgresql"
        pytest.skip("no PostgreSQL here")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def system(broker: str, tmp_path: Path, postgres: PostgresServer) -> Iterator[System]:
    postgres.rows("DROP TABLE IF EXISTS unique_users, unique_users_progress")
    with System(tmp_path / "system", broker, SPREAD) as system:
        yield system


def export(system: System, postgres: PostgresServer, *arguments: str, **environment: str) -> Worker:
    return system.start("export", "postgres", *arguments, environment={**postgres.environment, **environment})


def exported(system: System, postgres: PostgresServer, *arguments: str, code: int = 0, **environment: str) -> str:
    """Export to the end. Returns what was said."""
    worker = export(system, postgres, "--until-caught-up", *arguments, **environment)
    assert worker.wait(120) == code, worker.complaints
    assert PASSWORD not in worker.complaints
    return worker.complaints


def table(postgres: PostgresServer) -> dict[Bucket, PublishedBucket]:
    rows = postgres.rows(
        "SELECT interval, extract(epoch FROM start_at)::bigint, unique_users, lower_bound, upper_bound, at_end, why,"
        " whole FROM unique_users"
    )
    assert all(whole == (not why) for *_, why, whole in rows)
    return {
        Bucket(interval, start): PublishedBucket(
            users if low is None else Estimate(users, low, high), tuple(why), at_end
        )
        for interval, start, users, low, high, at_end, why, _ in rows
    }


def published(system: System) -> dict[Bucket, PublishedBucket]:
    return published_buckets(system.records(system.config.topics.counts.name))


def test_the_table_is_exact_though_postgresql_and_the_export_are_killed_in_the_middle(
    system: System, postgres: PostgresServer
) -> None:
    system.start_bucketer()
    system.start_counter()
    running = export(system, postgres)
    for turn in range(3):
        before = system.written(system.config.topics.counts.name) if turn else 0
        system.start_producer(list(sample_frames(3_000, seed=turn)), rate=1_500)
        system.until(lambda: system.written(system.config.topics.counts.name) > before, "more counts")  # noqa: B023
        running.kill()
        if turn == 0:
            running = export(system, postgres)
            continue
        postgres.kill()
        running = export(system, postgres)
        system.until(lambda: "waiting for PostgreSQL" in running.complaints, "a wait")  # noqa: B023
        postgres.start()
        system.until(lambda: "PostgreSQL answers" in running.complaints, "an answer")  # noqa: B023
    last = system.start_producer(list(sample_frames(3_000, seed=9)), rate=1_500)
    postgres.kill()  # under a running export
    system.until(lambda: "waiting for PostgreSQL" in running.complaints, "a wait")
    postgres.start()
    last.wait(60)
    system.until_caught_up()
    for worker in system.workers:
        if worker.name in {"bucketer", "counter"}:
            worker.end()
    truth = published(system)
    assert {bucket.interval for bucket in truth} == {*INTERVALS}
    system.until(lambda: table(postgres) == truth, "the table to be exact")
    assert running.complaints.count("waiting for PostgreSQL: ") == 2, "one line for each wait"
    assert running.end() is not None
    assert running.exit_code == 0
    assert "Traceback" not in running.complaints
    exported(system, postgres)
    assert table(postgres) == truth


def test_a_second_export_writes_nothing_new_and_another_topic_is_refused(
    system: System, postgres: PostgresServer
) -> None:
    system.start_producer(list(sample_frames(2_000, seed=6))).wait(60)
    for script in ("bucketer", "counter"):
        assert system.start(script, "--until-caught-up").wait(60) == 0
    exported(system, postgres)
    first = table(postgres)
    assert first == published(system)
    times = postgres.rows("SELECT max(updated_at) FROM unique_users")
    exported(system, postgres)
    assert postgres.rows("SELECT max(updated_at) FROM unique_users") == times

    system.admin.delete_topics([system.config.topics.counts.name])
    system.until(lambda: system.described(system.config.topics.counts.name) is None, "the topic to be gone")
    system.make_topics()
    said = exported(system, postgres, code=1)
    assert "was recreated or is on another cluster" in said
    assert "Traceback" not in said
    exported(system, postgres, "--from-start")
    assert table(postgres) == first, "what the new topic lacks stays"


def test_the_queries_for_grafana_run_on_the_table(system: System, postgres: PostgresServer) -> None:
    system.start_producer(list(sample_frames(2_000, seed=8))).wait(60)
    for script in ("bucketer", "counter"):
        assert system.start(script, "--until-caught-up").wait(60) == 0
    exported(system, postgres)
    recipes = (ROOT / "docs/recipes.md").read_text(encoding="utf-8").split("## Grafana on PostgreSQL\n")[1]
    queries = re.findall(r"```sql\n(.*?)```", recipes.split("\n## ")[0], re.DOTALL)
    all_times = "start_at BETWEEN '2000-01-01T00:00:00Z' AND '2100-01-01T00:00:00Z'"
    minutes, not_whole, days = (postgres.rows(query.replace("$__timeFilter(start_at)", all_times)) for query in queries)
    truth = published(system)
    assert [(time.timestamp(), users) for time, users, _ in minutes] == [
        (bucket.start, found.total) for bucket, found in sorted(truth.items()) if bucket.interval == "minute"
    ]
    assert not_whole == [(0,)]
    assert [users for _, users, *_ in days] == [
        found.total for bucket, found in sorted(truth.items(), reverse=True) if bucket.interval == "day"
    ]
    document = (ROOT / "docs/postgres.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```sql\n(SELECT.*?)```", document, re.DOTALL)
    assert len(postgres.rows(example)) == min(10, len(minutes))


def test_two_exports_of_one_table_end_exact(system: System, postgres: PostgresServer) -> None:
    both = [export(system, postgres), export(system, postgres)]
    system.start_bucketer()
    system.start_counter()
    system.start_producer(list(sample_frames(4_000, seed=7)), rate=1_500).wait(60)
    system.until_caught_up()
    for worker in system.workers:
        if worker.name in {"bucketer", "counter"}:
            worker.end()
    truth = published(system)
    system.until(lambda: table(postgres) == truth, "the table to be exact")
    assert [worker.exit_code for worker in both] == [None, None]


@pytest.mark.slow
@pytest.mark.parametrize("running", [False, True], ids=["the export is away", "the export is frozen"])
def test_counts_that_a_broker_lost_are_published_and_exported_again(
    tmp_path: Path,
    postgres: PostgresServer,
    running: bool,  # noqa: FBT001
) -> None:
    """counts  KEPT, copied | LOST, exported | the broker goes back to the copy | grows past its old end | exported"""
    postgres.rows("DROP TABLE IF EXISTS unique_users, unique_users_progress")
    settings = {"postgres": {"table": "unique_users"}}
    with (
        new_broker(tmp_path / "kafka") as kafka,
        System(tmp_path / "system", kafka.bootstrap_servers, settings) as system,
    ):
        counts = system.config.topics.counts.name
        sent: list[bytes] = []

        def replay(part: int) -> None:
            frames = list(sample_frames(500, seed=part, start=1_716_200_040 + 600 * part))
            sent.extend(frames)
            assert system.start_producer(frames).wait(60) == 0
            system.until_caught_up()

        def is_all(found: dict[Bucket, PublishedBucket]) -> bool:
            expected = expected_counts(system, recount(sent, system.config, int(time.time() * 1000)))
            return {bucket: each.total for bucket, each in found.items()} == expected

        system.start_bucketer()
        system.start_counter()
        exporting = export(system, postgres)
        replay(0)
        system.until(lambda: is_all(table(postgres)), "the table to have what is kept")
        copy = copied(kafka, tmp_path / "copy")
        replay(1)
        system.until(lambda: is_all(table(postgres)), "the table to have what will be lost")
        end = system.written(counts)
        if running:
            exporting.freeze()
        else:
            assert exporting.end() is not None
        kafka.kill()
        put_back(kafka, copy, [counts])
        kafka.start()
        system.until(lambda: is_all(published(system)), "the counter to publish again what is lost")
        replay(2)
        assert system.written(counts) > end
        if running:
            exporting.go_on()
        else:
            exporting = export(system, postgres)
        for worker in system.workers:
            if worker.name in {"bucketer", "counter"}:
                worker.end()
        assert is_all(published(system))
        system.until(lambda: table(postgres) == published(system), "the table to be exact")
        system.until(lambda: "has lost records that were read" in exporting.complaints, "it to say so")
        assert exporting.end() is not None
        assert exporting.exit_code == 0


@pytest.fixture
def settings(postgres: PostgresServer) -> Postgres:
    postgres.rows("DROP TABLE IF EXISTS unique_users, unique_users_progress")
    place = f"host=127.0.0.1 port={postgres.port} user=export dbname=postgres"
    return load_config("", [f"postgres.dsn={place}", f"postgres.password={PASSWORD}"], {}).postgres


PROGRESS = Progress("counts", "id", {0: 1})


def test_a_lock_that_somebody_holds_is_the_reason_of_a_wait(
    settings: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Table(settings)) as table, psycopg.connect(settings.dsn, password=PASSWORD) as other:
        assert table.kept() is None
        with table.change():
            table.write(Changes({}, []), PROGRESS)
        other.execute("LOCK TABLE unique_users_progress")
        monkeypatch.setattr(statements, "TIMEOUTS", statements.TIMEOUTS.replace("10s", "10ms"))
        with pytest.raises(PostgresAwayError, match="lock timeout"), table.change():
            pass


def test_an_export_that_is_frozen_in_a_transaction_does_not_block_another_one(
    settings: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Table(settings)) as frozen, closing(Table(settings)) as other:

        def write_meanwhile() -> None:
            with frozen.change():
                monkeypatch.undo()
                with other.change():
                    other.write(Changes({}, []), PROGRESS)

        assert frozen.kept() is None
        with frozen.change():
            frozen.write(Changes({}, []), PROGRESS)
        assert other.kept() is not None
        monkeypatch.setattr(statements, "TIMEOUTS", statements.TIMEOUTS.replace("60s", "10ms"))
        with pytest.raises(PostgresAwayError):
            write_meanwhile()


def test_rows_are_found_again_in_a_database_that_knows_no_encoding(
    settings: Postgres, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.rows("DROP DATABASE IF EXISTS ascii")
    postgres.rows("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    monkeypatch.delenv("PGCLIENTENCODING", raising=False)
    bucket = Bucket("minute", 1_704_067_200)
    row = Row(PublishedBucket(Estimate(3, 2, 4), ("state_lost",), 1), Source(1, 1))
    with closing(Table(replace(settings, dsn=f"{settings.dsn} dbname=ascii"))) as table:
        assert table.kept() is None
        with table.change():
            table.write(Changes({bucket: row}, []), PROGRESS)
        with table.change():
            assert table.rows([bucket]) == table.page(Bucket("", 0), 9) == {bucket: row}


def test_a_wrong_password_is_one_line_without_it(system: System, postgres: PostgresServer) -> None:
    system.make_topics()
    said = exported(system, postgres, code=1, PGPASSWORD="wrong-and-secret")
    assert said.count("error:") == 1
    assert "password authentication failed" in said
    assert "wrong-and-secret" not in said
