"""A password may stand in a wrong place of the settings: no message shows it, whatever is wrong."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from brokers import config_for
from kafka import errors as kafka_errors

from unique_users.clients.connect import get_admin, get_consumer, get_producer
from unique_users.clients.kafka_python.errors import explained as explained_by_kafka_python
from unique_users.clients.kafka_python.producer import _undelivered as undelivered_by_kafka_python
from unique_users.clients.librdkafka.errors import explained_error
from unique_users.commands import counter, producer
from unique_users.config.secrets import without_values
from unique_users.errors import BrokerAwayError, UniqueUsersError, UsageError
from unique_users.runtime.process import run_script

SECRET = "s3cr3t"
NUMBER = 91827364

WRONG_FILES = [
    "kafka: {sasl_plain_password: @s3cr3t}",
    "kafka: {sasl_plain_password: `s3cr3t}",
    "kafka: {sasl_plain_password: %s3cr3t}",
    "kafka: {sasl_plain_password: *s3cr3t}",
    "kafka: {sasl_plain_password: !s3cr3t}",
    "kafka: {sasl_plain_password: !s3cr3t!x y}",
    "kafka: {sasl_plain_password: !<s3cr3t}",
    "kafka: {sasl_plain_password: !!int s3cr3t}",
    "kafka: {sasl_plain_password: !!float s3cr3t}",
    "kafka: {sasl_plain_password: !!bool s3cr3t}",
    "kafka: {sasl_plain_password: !!timestamp s3cr3t}",
    "kafka: {sasl_plain_password: !!binary s3cr3té}",
    "kafka: {sasl_plain_password: &s3cr3t a, x: &s3cr3t b}",
    "kafka:\n  sasl_plain_password: 's3cr3t\n  client_id: a\n",
    'kafka:\n  sasl_plain_password: "s3cr3t\n',
    'kafka:\n  sasl_plain_password: "a\\s3cr3t"\n',
    "kafka:\n  sasl_plain_password: s3cr3t: a\n",
    "kafka:\n  sasl_plain_password: s3cr3t\0\n",
    "kafka:\n  sasl_plain_password: s3cr3t\n client_id: a\n",
    "kafka:\n  sasl_plain_password:s3cr3t\n  client_id: a\n",
    "kafka:\n  sasl_plain_password:s3cr3t\n",
    "kafka: {sasl_plain_password:s3cr3t}",
    "kafka: {'sasl_plain_password=s3cr3t': 1}",
    "kafka: {'sasl_plain_password:s3cr3t': '${NOT_SET_ANYWHERE}'}",
    "kafka: {sasl_plain_password: 'a${s3cr3t}b'}",
    "kafka: s3cr3t",
    "kafka: [s3cr3t]",
    "- {kafka: {sasl_plain_password: s3cr3t}}",
    "sasl_plain_password=s3cr3t",
    "%s3cr3t\n---\nkafka: 5",
    "'sasl_plain_password:s3cr3t': 1",
    "counter: {'sasl_plain_password:s3cr3t': 1}",
    "kafka: {bootstrap_servers: 'user:s3cr3t@host:9092'}",
    "kafka: {bootstrap_servers: 's3cr3t@host:9092'}",
    "kafka: {bootstrap_servers: 'SASL_SSL://user:s3cr3t@host:9092'}",
    "kafka: {bootstrap_servers: ['host:9092', 'user:s3cr3t@host:9092']}",
    "kafka: {bootstrap_servers: {user: s3cr3t}}",
]

WRONG_ARGUMENTS = [
    ["--set", "kafka.sasl_plain_password:s3cr3t"],
    ["--set", "kafka.sasl_plain_password:s3=cr3t-s3cr3t"],
    ["--set", "kafka.sasl_plain_password s3cr3t=1"],
    ["--set", "s3cr3t"],
    ["--set", "kafka=s3cr3t"],
    ["--set", "kafka=s3cr3t", "--set", "kafka.sasl_plain_password=s3cr3t"],
    ["--set", "kafka.bootstrap_servers=user:s3cr3t@host:9092"],
    ["--set", "kafka.bootstrap.servers=s3cr3t@host:9092"],
    ["--set", "kafka.sasl_plain_password=a${s3cr3t}b"],
    ["--set", "kafka.x", "s3cr3t"],
    ["--set", "kafka.sasl_plain_password", "=", "s3cr3t"],
    ["kafka.sasl_plain_password=s3cr3t"],
    ["--until-caught-up=s3cr3t"],
    ["--format", "s3cr3t"],
    ["--wrong=s3cr3t"],
]

Said = Callable[..., str]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Said:
    """What a script with these settings writes, to stdout and stderr; it has to end with exit code 2."""

    def run(main: Callable[[Sequence[str]], int], text: str, *arguments: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["script.py", "--config", str(path), *arguments])
        with pytest.raises(SystemExit) as ended:
            run_script(main)
        assert ended.value.code == 2
        return "".join(capfd.readouterr())

    return run


@pytest.mark.parametrize("text", WRONG_FILES)
def test_no_message_shows_a_piece_of_a_wrong_file(said: Said, text: str) -> None:
    line = said(counter.main, text)
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert SECRET not in line


def test_a_file_that_is_not_utf_8_shows_none_of_its_bytes(tmp_path: Path, said: Said) -> None:
    (tmp_path / "latin1.yaml").write_bytes("kafka:\n  sasl_plain_password: ü".encode("latin1"))
    line = said(counter.main, "", "--config", str(tmp_path / "latin1.yaml"))
    assert line.endswith("latin1.yaml: cannot be read: line 2 is not UTF-8\n")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("kafka:\n  sasl_plain_password: @s3cr3t", "line 2, column 24: found a character that cannot start a value"),
        ("kafka:\n  a: [s3cr3t", "line 2, column 13: expected ',' or ']'"),
        ("a: s3cr3t: b", "line 1, column 10: mapping values are not allowed here"),
        ("a: 1\nb: *s3cr3t", "line 2, column 4: found undefined alias"),
        ("a: 1\nb: !!bool s3cr3t", "line 2, column 4: found a value that its type does not have"),
        ("a: 1\nb: s\0", "line 2, column 5: a character that YAML does not allow"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(said: Said, text: str, place: str) -> None:
    assert place in said(counter.main, text)


@pytest.mark.parametrize("arguments", WRONG_ARGUMENTS, ids=" ".join)
@pytest.mark.parametrize("main", [counter.main, producer.main], ids=["counter", "producer"])
def test_no_message_shows_a_value_of_wrong_arguments(
    said: Said, main: Callable[[Sequence[str]], int], arguments: list[str]
) -> None:
    text = said(main, "", *arguments)
    assert "error: " in text
    assert SECRET not in text.replace(f"--{SECRET}", "")


CLIENT_SETTINGS = [
    *(
        ("kafka-python", name, SECRET)
        for name in (
            *("api_version", "client_dns_lookup", "partition_assignment_strategy", "proxy_url", "security_protocol"),
            *("sasl_mechanism", "ssl_cafile", "request_timeout_ms", "metrics_enabled", "isolation_level"),
        )
    ),
    ("kafka-python", "proxy_url", f"ftp://user:{SECRET}@host:1"),
    ("kafka-python", "client_id", [SECRET]),
    ("kafka-python", "client_id", {SECRET: SECRET}),
    ("kafka-python", "bootstrap_timeout_ms", [SECRET]),
    ("kafka-python", "session_timeout_ms", NUMBER),
    ("kafka-python", "sasl_plain_password", NUMBER),
    ("kafka-python", "ssl_password", NUMBER),
    *(
        ("librdkafka", name, SECRET)
        for name in (
            *("security.protocol", "sasl.mechanism", "debug", "auto.offset.reset", "partition.assignment.strategy"),
            *("plugin.library.paths", "ssl.ca.location", "ssl.key.pem", "ssl.keystore.location", "error_cb"),
            *("default.topic.config", "partitioner", "statistics.interval.ms"),
        )
    ),
    ("librdkafka", "debug", f"all,{SECRET}"),
    ("librdkafka", "ssl.providers", f"{SECRET},default"),
    ("librdkafka", "default.topic.config", {SECRET: SECRET}),
    ("librdkafka", "statistics.interval.ms", -NUMBER),
    ("librdkafka", "client.id", f"{SECRET}\0"),
]


@pytest.mark.parametrize(("client", "name", "value"), CLIENT_SETTINGS)
def test_no_complaint_about_a_clients_setting_shows_its_value(
    client: str, name: str, value: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kafka_python_settings(), "bootstrap_timeout_ms", 10)
    monkeypatch.setattr("unique_users.clients.librdkafka.errors.BOOTSTRAP_SECONDS", 0.01)
    config = config_for("127.0.0.1:1", client=client, kafka={name: value})
    shown = ""
    for make in (get_admin, get_producer, lambda config: get_consumer(config, "topic", "group")):
        try:
            make(config)
        except BrokerAwayError:
            pass
        except UniqueUsersError as error:
            shown += str(error)
    shown += "".join(capfd.readouterr())
    assert SECRET not in shown
    assert str(NUMBER) not in shown
    assert "\n" not in shown


def kafka_python_settings() -> dict[str, Any]:
    from unique_users.clients.kafka_python import settings  # noqa: PLC0415

    return settings._CLIENT


@pytest.mark.parametrize(
    "kafka",
    [{"security_protocol": SECRET}, {"security_protocol": "SSL", "sasl_mechanism": "AWS_MSK_IAM", "client_id": SECRET}],
)
def test_what_msk_needs_is_told_without_what_was_given(kafka: dict[str, str]) -> None:
    config = config_for("127.0.0.1:1", kafka={"sasl_mechanism": "AWS_MSK_IAM", **kafka})
    with pytest.raises(UsageError) as caught:
        get_admin(config)
    assert SECRET not in str(caught.value)


ANSWER = f"Authentication failed for user {SECRET} with SASL mechanism SCRAM-SHA-512"


@pytest.mark.parametrize(
    "error",
    [
        kafka_errors.SaslAuthenticationFailedError(ANSWER),
        kafka_errors.KafkaConfigurationError(ANSWER),
        kafka_errors.KafkaError(ANSWER),
        AssertionError(ANSWER),
    ],
)
def test_what_kafka_python_says_is_told_without_the_users_values(error: Exception) -> None:
    config = config_for("host:1", kafka={"sasl_plain_username": SECRET, "sasl_mechanism": "SCRAM-SHA-512"})
    with pytest.raises(UniqueUsersError) as caught, explained_by_kafka_python(config):
        raise error
    assert "for user *** with SASL mechanism SCRAM-SHA-512" in str(caught.value)
    assert SECRET not in str(undelivered_by_kafka_python(error, config))


@pytest.mark.parametrize(
    "code", [confluent_kafka.KafkaError.SASL_AUTHENTICATION_FAILED, confluent_kafka.KafkaError.UNKNOWN]
)
def test_what_librdkafka_says_is_told_without_the_users_values(code: int) -> None:
    config = config_for("host:1", kafka={"sasl.username": SECRET})
    told = explained_error(config, confluent_kafka.KafkaError(code, ANSWER))
    assert "for user *** with SASL mechanism SCRAM-SHA-512" in str(told)


@pytest.mark.parametrize(
    ("value", "text", "told"),
    [
        ("hunter2", 'Invalid value "hunter2"', 'Invalid value "***"'),
        ("a,hunter2 ,b", "no such thing: hunter2", "no such thing: ***"),
        ("user=me secret=hunter2", "what is hunter2?", "what is ***?"),
        (12, "12 of 1234 at host:12", "*** of 1234 at host:***"),
        ("a", "a word", "*** word"),
        ("it's", 'not "it\'s"', 'not "***"'),
        ("a\nhunter2", "line hunter2\nhere", "line *** here"),
        ("back\\slash", "not 'back\\\\slash'", "not '***'"),
        (["hunter2", {"x1": "hunter3"}], "hunter2 x1 hunter3", "*** *** ***"),
        ("PLAIN", "SASL PLAIN failed", "SASL PLAIN failed"),
        (True, "expected true", "expected true"),
        (None, "None", "None"),
        ("", "nothing", "nothing"),
    ],
)
def test_values_and_their_parts_are_hidden(value: Any, text: str, told: str) -> None:
    assert without_values(text, {"x": value, "bootstrap_servers": ["host:9092"]}) == told
