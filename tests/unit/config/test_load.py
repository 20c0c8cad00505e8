import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from repository import ROOT

from unique_users.config.load import load_config
from unique_users.config.schema import Config
from unique_users.errors import UsageError

Load = Callable[..., Config]


def leaves(section: msgspec.Struct, address: str = "") -> Iterator[tuple[str, object]]:
    """The address of each key that is no section, with its default."""
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, msgspec.Struct):
            yield from leaves(value, f"{address}{name}.")
        else:
            yield f"{address}{name}", value


NUMBERS = [key for key, value in leaves(Config()) if type(value) in {int, float}]
CHOICES = {
    "client",
    "log.format",
    "frame.ts_unit",
    "frame.registry_framing",
    "producer.compression",
    "bucketer.partition_by",
    "broker.version",
}
TEXTS = [key for key, value in leaves(Config()) if isinstance(value, str) and value and key not in CHOICES]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a configuration from its text, overrides, and variables of the environment."""

    def load(text: str, *overrides: str, **environment: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(str(path), overrides, environment)

    return load


def complaint(load: Load, text: str, *overrides: str, **environment: str) -> str:
    """The one line that a person reads, without the file's place and the line in it."""
    with pytest.raises(UsageError) as caught:
        load(text, *overrides, **environment)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return re.sub(r"^/\S*/(config\.yaml)(, line \d+)?", r"\1", message)


def test_published_counts_are_kept_by_interval(load: Load) -> None:
    assert load("").counter.publish_keep_days == {"minute": 400, "5 minutes": 400}
    assert load("counter: {publish_keep_days: {}}").counter.publish_keep_days == {}
    assert load("counter: {publish_keep_days: {5 minutes: 9}}", "counter.publish_keep_days.minute=0") == load(
        "counter: {publish_keep_days: {minute: 0, 5 minutes: 9}}"
    )
    assert "expected one of minute, 5 minutes" in complaint(load, "counter: {publish_keep_days: {second: 1}}")


def test_an_empty_file_is_the_defaults(load: Load) -> None:
    config = load("")
    assert config.bootstrap_servers == ["localhost:9092"]
    assert config.counter.report_seconds == 60
    assert config.topics.counts.settings == {"cleanup.policy": "compact", "segment.ms": 86_400_000}


def test_the_file_that_comes_with_the_program_holds_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_config("config.yaml", environment={}) == load_config("", environment={})


def test_values_come_from_the_file_and_overrides_go_before_them(load: Load) -> None:
    text = "counter: {report_seconds: 5, group: a}\ntopics: {feed: {name: f, partitions: 2}}"
    config = load(text, "counter.report_seconds=0.5", "topics.feed.partitions=3", "frame.ts_unit=ms")
    assert (config.counter.report_seconds, config.counter.group) == (0.5, "a")
    assert (config.topics.feed.name, config.topics.feed.partitions) == ("f", 3)
    assert config.frame.ts_unit == "ms"


def test_the_last_of_two_overrides_counts_and_a_value_may_hold_equals_signs(load: Load) -> None:
    config = load("", "counter.group=a", "counter.group=b=c")
    assert config.counter.group == "b=c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("counter: {reprot_seconds: 5}", "counter.reprot_seconds: unknown key: did you mean 'report_seconds'?"),
        ("countr: {}", "countr: unknown key: did you mean 'counter'?"),
        ("topics: {fed: {name: x}}", "topics.fed: unknown key: did you mean 'feed'?"),
        ("topics: {feed: {name: x, partition: 1}}", "topics.feed.partition: unknown key: did you mean 'partitions'?"),
        ("producer: {qqq: 1}", "producer.qqq: unknown key; the keys here are file, compression, report_seconds"),
        ("counter: {report_seconds: soon}", "counter.report_seconds: expected a number, got a string"),
        ("counter: {report_seconds: [1]}", "counter.report_seconds: expected a number, got a list"),
        ("counter: {report_seconds: true}", "counter.report_seconds: expected a number, got true or false"),
        ("counter: 5", "counter: expected a section with keys, got a whole number"),
        ("counter:", "counter: expected a section with keys, got nothing"),
        ("frame: {uid: 5}", "frame.uid: expected a string or a list of strings, got a whole number"),
        ("topics: {feed: {name: x, partitions: .5}}", "topics.feed.partitions: expected a whole number, got a number"),
    ],
)  # fmt: skip
def test_a_wrong_key_or_type_is_named_with_its_path(load: Load, text: str, expected: str) -> None:
    assert complaint(load, text) == f"config.yaml: {expected}"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("counter: {report_seconds: 0}", "counter.report_seconds", "0"),
        ("counter: {report_seconds: -1.5}", "counter.report_seconds", "-1.5"),
        ("counter: {report_seconds: .nan}", "counter.report_seconds", "nan"),
        ("topics: {feed: {name: x, partitions: 0}}", "topics.feed.partitions", "0"),
        ("topics: {feed: {name: a b}}", "topics.feed.name", "'a b'"),
        ("topics: {feed: {name: x, replication: -2}}", "topics.feed.replication", "-2"),
        ("frame: {ts_unit: m}", "frame.ts_unit", "'m'"),
        ("frame: {uid: ''}", "frame.uid", "''"),
        ("broker: {version: '3.0'}", "broker.version", "'3.0'"),
        ("client: other", "client", "'other'"),
        ("producer: {compression: lzma}", "producer.compression", "'lzma'"),
        ("bucketer: {allowed_lateness_seconds: -1}", "bucketer.allowed_lateness_seconds", "-1"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_path_and_shown(load: Load, text: str, path: str, value: str) -> None:
    message = complaint(load, text)
    assert message.startswith(f"config.yaml: {path}: ")
    assert message.endswith(f"got {value}")


def test_a_key_that_is_no_text_is_named_with_its_section(load: Load) -> None:
    assert complaint(load, "counter: {1: 2}").startswith("config.yaml: counter: ")


def test_an_override_is_named_where_it_is_wrong(load: Load) -> None:
    assert complaint(load, "", "counter.report_seconds=0").startswith("--set counter.report_seconds: ")
    assert complaint(load, "", "counter.reprot_seconds=1").endswith("did you mean 'report_seconds'?")
    assert complaint(load, "counter: {group: 5}", "frame.uid=u").startswith("config.yaml: counter.group: ")


@pytest.mark.parametrize("override", ["", "x", "=1", "a..b=1", ".a=1", "counter.=1", "a b=1"])
def test_an_override_that_is_no_key_and_value_is_refused(load: Load, override: str) -> None:
    assert complaint(load, "counter: {group: a}", override).startswith("--set: expected section.key=value, ")


def test_an_override_below_a_value_is_named(load: Load) -> None:
    said = complaint(load, "counter: {group: a}", "counter.group.x=1")
    assert said == "--set counter.group.x: 'group' is a value, not a section"


@pytest.mark.parametrize("text", ["a: [", "\t", "a: b: c", "- 1\nb", "{", "a: \0", "&a [*b]"])
def test_a_file_that_is_not_yaml_is_refused_in_one_line(load: Load, text: str) -> None:
    assert complaint(load, text).startswith("config.yaml: not valid YAML: ")


@pytest.mark.parametrize(
    "text", ["frame: {uid: !!timestamp 2016-13-45}", "frame: &a {uid: *a}"], ids=["no date", "in itself"]
)
def test_yaml_that_means_nothing_is_refused_in_one_line(load: Load, text: str) -> None:
    assert complaint(load, text).startswith("config.yaml: ")


def laughs(of: str) -> str:
    """Each line holds the one before it nine times: 9^9 values in the last."""
    lines = ["a0: &a0 x", *(f"a{n}: &a{n} {of.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, 10))]
    return "\n".join(lines) + "\nkafka: {x: *a9}"


OUT_OF_PROPORTION = {
    "a billion values": (laughs("[{}]"), "more than 10000 keys and values"),
    "a billion merged values": ("a0: &a0 {x: 1}\n" + laughs("{{<<: [{}]}}").partition("\n")[2], "more than 10000"),
    "in itself": ("frame: &a {uid: *a}", "a section holds itself through an alias"),
    "in itself deeper": ("frame: &a [[{uid: *a}]]", "a section holds itself through an alias"),
    "deep lists": ("a: " + "[" * 100_000, "nested in more than 32 levels"),
    "deep sections": ("a: " + "{a: " * 5_000 + "}" * 5_000, "nested in more than 32 levels"),
    "deep blocks": ("\n".join(" " * n + "a:" for n in range(500)), "nested in more than 32 levels"),
    "many values": ("a: [" + "1," * 50_000 + "]", "more than 10000 keys and values"),
    "a large file": ("# " + "x" * 300_000, "larger than 262144 bytes"),
    "a number of many digits": ("counter: {report_seconds: 0x" + "F" * 10_000 + "}", "a value that its type does"),
    "digits that Python refuses": ("counter: {report_seconds: " + "9" * 10_000 + "}", "a value that its type does"),
}


@pytest.mark.parametrize(("text", "said"), OUT_OF_PROPORTION.values(), ids=OUT_OF_PROPORTION)
def test_a_file_out_of_all_proportion_is_refused_in_one_line(load: Load, text: str, said: str) -> None:
    assert said in complaint(load, text)


def test_an_alias_may_be_used_as_yaml_allows(load: Load) -> None:
    config = load("topics: {feed: {settings: &s {retention.ms: 5}}, bucketed: {settings: *s}, counts: {settings: *s}}")
    assert config.topics.counts.settings == config.topics.feed.settings == {"retention.ms": 5}


@pytest.mark.parametrize("deep", ["[" * 100_000, "{a: " * 5_000, "&a [*a]", "9" * 10_000])
def test_an_override_out_of_all_proportion_is_a_text(load: Load, deep: str) -> None:
    assert complaint(load, "", f"counter.report_seconds={deep}").startswith("--set counter.report_seconds: ")
    assert load("", "kafka.bootstrap_servers=h:1", f"kafka.x={deep}").kafka["x"] == deep


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e999", "-1", "9" * 18])
def test_a_number_that_no_key_can_have_is_refused(load: Load, key: str, number: str) -> None:
    section, _, name = key.rpartition(".")
    tree = {name: yaml.safe_load(number)}
    for outer in reversed(section.split(".")):
        tree = {outer: tree}
    if number == "-1" and name == "replication":
        return
    assert f"{key}: " in complaint(load, yaml.safe_dump(tree))
    assert f"{key}: " in complaint(load, "", f"{key}={number}")


def test_a_number_of_the_clients_is_finite(load: Load) -> None:
    assert complaint(load, "kafka: {bootstrap_servers: 'h:1', x: .inf}").endswith("kafka.x: expected a finite number")
    assert "topics.feed.settings: " in complaint(load, "topics: {feed: {settings: {retention.ms: .nan}}}")


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("text", ["a\n", "a\0", "\na", "a\x1b[2J", "a\u2028b", "a\ud800", ""], ids=ascii)
def test_a_text_that_no_line_or_place_can_hold_is_refused(load: Load, key: str, text: str) -> None:
    name = f"${{TEXT:-{key.partition('.')[0] if not text else ''}}}" if text else ""
    assert f"{key}: expected " in complaint(load, "", f"{key}={name or chr(39) * 2}", TEXT=text)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=ascii)
def test_a_text_that_no_client_can_take_is_refused_and_not_shown(load: Load, text: str) -> None:
    said = complaint(load, "kafka: {bootstrap_servers: 'h:1', sasl_plain_password: '${TEXT}'}", TEXT=text)
    assert "kafka.sasl_plain_password: expected a string without NUL bytes" in said


def test_a_text_with_many_signs_is_not_shown_whole(load: Load) -> None:
    assert "counter.group: expected a string of length <= 4000" in complaint(load, "", "counter.group=" + "x" * 5_000)
    assert "client: " in complaint(load, "", "client=" + "x" * 5_000)


def test_an_override_that_looks_like_a_date_is_a_text(load: Load) -> None:
    assert load("", "counter.group=2016-13-45").counter.group == "2016-13-45"


@pytest.mark.parametrize("text", ["- 1", "5", "hello"])
def test_a_file_without_sections_is_refused(load: Load, text: str) -> None:
    assert complaint(load, text).startswith("config.yaml: expected sections")


def test_a_missing_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.yaml: no such file: name it with --config FILE"):
        load_config(str(tmp_path / "missing.yaml"))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(str(tmp_path))
    (tmp_path / "latin1.yaml").write_bytes(b"counter: {group: \xfc}")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(str(tmp_path / "latin1.yaml"))


def test_variables_come_from_the_environment(load: Load) -> None:
    text = (
        "counter: {group: 'g-${NAME}-${NAME}', report_seconds: '${SECONDS}'}\nkafka: {bootstrap_servers: ['${HOST}:1']}"
    )
    config = load(text, NAME="x", SECONDS="2.5", HOST="h")
    assert (config.counter.group, config.counter.report_seconds) == ("g-x-x", 2.5)
    assert config.bootstrap_servers == ["h:1"]


@pytest.mark.parametrize(("environment", "group"), [({}, "d"), ({"NAME": ""}, "d"), ({"NAME": "x"}, "x")])
def test_a_variable_may_have_a_default(load: Load, environment: dict[str, str], group: str) -> None:
    assert load("counter: {group: '${NAME:-d}'}", **environment).counter.group == group


def test_a_variable_that_is_not_set_is_named_with_the_key_that_wants_it(load: Load) -> None:
    message = complaint(load, "kafka: {bootstrap_servers: 'h:1', sasl_plain_password: '${SECRET}'}")
    assert message.startswith("config.yaml: kafka.sasl_plain_password: the environment variable SECRET is not set")
    assert load("counter: {group: '${NAME:-}x'}").counter.group == "x"


def test_a_secret_is_in_no_message(load: Load) -> None:
    text = "kafka: {bootstrap_servers: nothing, sasl_plain_password: '${SECRET}'}\ncounter: {group: 5}"
    assert "hunter2" not in complaint(load, text, SECRET="hunter2")


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ("h:1", ["h:1"]),
        ("'h:1,i:2'", ["h:1", "i:2"]),
        ("' h:1 , i:2 '", ["h:1", "i:2"]),
        ("['h:1', 'i.example:9092']", ["h:1", "i.example:9092"]),
        ("'[::1]:9092'", ["[::1]:9092"]),
    ],
)
@pytest.mark.parametrize("name", ["bootstrap_servers", "bootstrap.servers"])
def test_brokers_are_one_address_or_several(load: Load, name: str, servers: str, expected: list[str]) -> None:
    config = load(f"kafka: {{{name}: {servers}}}")
    assert config.bootstrap_servers == expected
    assert config.kafka == {"bootstrap_servers": expected}


@pytest.mark.parametrize(
    "kafka", ["{bootstrap_servers: null}", "{bootstrap_servers: h}", "{bootstrap_servers: ''}",
              "{bootstrap_servers: 'h:'}", "{bootstrap_servers: ':1'}", "{bootstrap_servers: 'h:1,'}",
              "{bootstrap_servers: []}",
              "{bootstrap_servers: ['h:1', 5]}", "{bootstrap_servers: 9092}", "{bootstrap_servers: 'h:port'}",
              "{bootstrap_servers: 'h:99999'}",
              "{bootstrap_servers: 'a..b:1'}", "{bootstrap_servers: '.:1'}", "{bootstrap_servers: '[::::]:1'}",
              '{bootstrap_servers: "a\\0b:1"}', "{bootstrap_servers: 'u@h:1'}"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(load: Load, kafka: str) -> None:
    assert "kafka.bootstrap_servers: expected host:port" in complaint(load, f"kafka: {kafka}")


def test_the_clients_own_settings_go_through_as_they_are_with_dots_too(load: Load) -> None:
    config = load("kafka: {bootstrap.servers: 'h:1', security.protocol: SSL, fetch_max_bytes: 5}", "kafka.client.id=me")
    assert config.kafka == {
        "bootstrap_servers": ["h:1"],
        "security.protocol": "SSL",
        "fetch_max_bytes": 5,
        "client.id": "me",
    }


@pytest.mark.parametrize("in_file", ["bootstrap_servers", "bootstrap.servers"])
@pytest.mark.parametrize("given", ["bootstrap_servers", "bootstrap.servers"])
def test_an_override_of_the_brokers_counts_however_the_name_is_written(load: Load, in_file: str, given: str) -> None:
    config = load(f"kafka: {{{in_file}: 'file:1'}}", f"kafka.{given}=given:2")
    assert config.bootstrap_servers == ["given:2"]


def test_the_counter_may_not_forget_what_the_bucketer_lets_in(load: Load) -> None:
    message = complaint(load, "bucketer: {allowed_lateness_seconds: 1000}\ncounter: {retention_seconds: 999}")
    assert message.startswith("config.yaml: counter.retention_seconds: ")
    assert "config.yaml: counter.retention_seconds: " in complaint(load, "bucketer: {allowed_lateness_seconds: 0}")
    assert load("bucketer: {allowed_lateness_seconds: 0}\ncounter: {retention_seconds: 0}")
    assert load("bucketer: {allowed_lateness_seconds: 1000}\ncounter: {retention_seconds: 1000}")


@pytest.mark.parametrize("fields", ["{uid: x, ts: x}", "{uid: ts}"])
def test_user_and_time_are_two_fields(load: Load, fields: str) -> None:
    assert complaint(load, f"frame: {fields}").startswith("config.yaml: frame.")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["counter.intervals=[fortnight]"], "counter.intervals"),
        (["counter.intervals=[]"], "counter.intervals"),
        (["counter.intervals=[hour, hour]"], "counter.intervals: expected each interval once, got 'hour' twice"),
        (
            ["counter.intervals=[minute, hour]", "counter.estimates=[minute]"],
            "counter.estimates: expected some of counter.intervals, each once and never the minute, got 'minute'",
        ),
        (["counter.intervals=[minute, hour]", "counter.estimates=[day]"], "each once and never the minute, got 'day'"),
        (["counter.intervals=[hour]", "counter.estimates=[hour, hour]"], "each once and never the minute, got 'hour'"),
        (["counter.timezone=Europe/Bärlin"], "counter.timezone: expected a zone like UTC or Europe/Berlin"),
        (["counter.timezone=../etc"], "counter.timezone: expected a zone"),
        (
            ["counter.intervals=[minute, hour]", "topics.bucketed.partitions=2"],
            "the minutes of one hour stand in several partitions, and a user would be counted in each of them",
        ),
    ],
)
def test_intervals_that_are_none_or_would_be_counted_wrongly_are_refused(
    tmp_path: Path, overrides: list[str], said: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(said)):
        load_config(str(path), overrides)


def test_wide_intervals_over_several_partitions_are_counted_rightly_where_a_user_stands_in_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("", encoding="utf-8")
    wide = ["counter.intervals=[5 minutes, hour, day, week, month, year]", "counter.timezone=Europe/Berlin"]
    over = ["topics.bucketed.partitions=2", "bucketer.partition_by=uid"]
    assert load_config(str(path), [*wide, *over]).counter.timezone == "Europe/Berlin"
    assert load_config(str(path), [over[0], "counter.intervals=[minute]"]).counter.intervals == ["minute"]
