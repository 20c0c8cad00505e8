"""Values that are allowed and do not go together."""

import pytest
from brokers import config_for
from fakes import FakeAdmin, FakeConsumer, FakeKafka

from unique_users.doctor.configuration import look
from unique_users.doctor.examination import Clock, Examination


def found(fake: FakeKafka, **sections: object) -> list[tuple[str, str]]:
    config = config_for("fake:1", **sections)
    examination = Examination(
        config, lambda: FakeAdmin(fake), lambda topic: FakeConsumer(fake, topic, None, alone=True), Clock()
    )
    return [(each.status, each.says) for each in look(examination)]


def test_the_defaults_go_together(kafka: FakeKafka) -> None:
    assert [status for status, _ in found(kafka)] == ["ok"]


@pytest.mark.parametrize(
    ("sections", "status", "says"),
    [
        ({"bucketer": {"group": "one"}, "counter": {"group": "one"}}, "wrong", "take each other's partitions"),
        ({"kafka": {"sasl.plain.password": "secret-word"}}, "warning", "no login is sent"),
        ({"kafka": {"ssl_cafile": "ca.pem"}}, "warning", "nothing is encrypted"),
        ({"kafka": {"ssl_cafile": "ca.pem", "security_protocol": "SASL_PLAINTEXT"}}, "warning", "nothing is encrypted"),
        ({"kafka": {"security_protocol": "SASL_SSL"}}, "warning", "kafka.sasl_mechanism is not set"),
        ({"health": {"stuck_seconds": 5}}, "warning", "would end itself"),
        ({"counter": {"retention_seconds": 0}}, "warning", "grows forever"),
        (
            {"topics": {"feed": {"replication": 2, "settings": {"min.insync.replicas": 3}}}},
            "wrong",
            "nothing could be written",
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    kafka: FakeKafka, sections: dict[str, object], status: str, says: str
) -> None:
    all_found = found(kafka, **sections)
    assert any(each == status and says in words for each, words in all_found), all_found
    assert "secret-word" not in str(all_found)


def test_a_login_over_tls_is_fine(kafka: FakeKafka) -> None:
    login = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_password": "x", "ssl_cafile": "y"}
    assert [status for status, _ in found(kafka, kafka=login)] == ["ok"]
