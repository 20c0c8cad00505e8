"""An examination ends, whatever its checks do, and says what it left out."""

import json
from collections.abc import Iterator
from threading import Event

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka

from unique_users.doctor.examination import CONNECTION, Clock, Examination
from unique_users.doctor.finding import Finding, ok, warning, wrong
from unique_users.doctor.printing import as_json, lines
from unique_users.doctor.runner import Check, examined
from unique_users.errors import BrokerAwayError


@pytest.fixture
def examination(kafka: FakeKafka) -> Examination:
    config = config_for("fake:1", kafka={"sasl_plain_password": "hidden-word"})
    made = Examination(
        config, lambda: FakeAdmin(kafka), lambda topic: FakeConsumer(kafka, topic, None, alone=True), Clock()
    )
    made.provided.add(CONNECTION)
    return made


def fine(_examination: Examination) -> Iterator[Finding]:
    yield ok("fine", "all is well")


def test_a_check_that_never_ends_is_left_behind_and_what_needs_the_connection_too(examination: Examination) -> None:
    never = Event()

    def stuck(_examination: Examination) -> Iterator[Finding]:
        yield ok("first", "found before")
        never.wait()

    checks = [Check("stuck", stuck, seconds=0.1), Check("needs it", fine, (CONNECTION,)), Check("fine", fine)]
    found = list(examined(checks, examination))
    never.set()
    assert [(each.check, each.status) for each in found] == [
        ("first", "ok"),
        ("stuck", "wrong"),
        ("needs it", "skipped"),
        ("fine", "ok"),
    ]
    assert found[1].says == "no answer within 0.1 s"


def test_a_broker_that_goes_away_meanwhile_is_said_once(examination: Examination) -> None:
    def away(_examination: Examination) -> Iterator[Finding]:
        raise BrokerAwayError("no answer from the broker at fake:1")
        yield

    found = list(examined([Check("one", away, (CONNECTION,)), Check("two", away, (CONNECTION,))], examination))
    assert [each.status for each in found] == ["wrong", "skipped"]
    assert found[0].says == "no answer from the broker at fake:1"


def test_a_broken_check_hides_neither_the_others_nor_itself_and_shows_no_secret(examination: Examination) -> None:
    def broken(_examination: Examination) -> Iterator[Finding]:
        raise ValueError("cannot use hidden-word")
        yield

    found = list(examined([Check("broken", broken), Check("fine", fine)], examination))
    assert [each.status for each in found] == ["wrong", "ok"]
    assert "ValueError: cannot use ***" in found[0].says


def test_the_report_has_a_line_for_each_finding_and_what_to_do_below() -> None:
    shown = list(lines([ok("disk", "much is free"), wrong("frames", "none for 5 min", "look at the producers")]))
    assert shown == [
        "ok       disk             much is free",
        "WRONG    frames           none for 5 min",
        "                          do: look at the producers",
        "",
        "not well: 1 wrong, 1 ok",
    ]
    assert list(lines([warning("tls", "ends soon"), ok("disk", "free")]))[-1] == "all is well: 1 to know about, 1 ok"


def test_the_object_for_programs_says_whether_all_is_well() -> None:
    assert json.loads(as_json([warning("tls", "ends soon", "renew it")])) == {
        "well": True,
        "findings": [{"check": "tls", "status": "warning", "says": "ends soon", "do": "renew it"}],
    }
    assert json.loads(as_json([wrong("tls", "ended")]))["well"] is False
