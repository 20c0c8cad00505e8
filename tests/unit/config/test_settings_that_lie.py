"""A setting that would be ignored or mean something else is refused, with its place and with what to say instead."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import asdict

from unique_users.config.kafka_section import OURS
from unique_users.config.load import load_config
from unique_users.config.names import check_moved
from unique_users.config.schema import Config, start_of
from unique_users.errors import UsageError
from unique_users.messages.frame import FrameFormat
from unique_users.messages.frame_parser import FrameParser

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a configuration from its text, in the folder of its file."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str) -> Config:
        Path("config.yaml").write_text(text, encoding="utf-8")
        return load_config("config.yaml", overrides, {})

    return load


def complaint(load: Load, text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(text, *overrides)
    return str(caught.value)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dots", [False, True], ids=["underscores", "dots"])
def test_what_the_program_sets_itself_is_refused_however_it_is_written(load: Load, name: str, dots: bool) -> None:  # noqa: FBT001
    given = name.replace("_", ".") if dots else name
    said = complaint(load, f"kafka:\n  bootstrap_servers: h:1\n  {given}: latest")
    assert said == f"config.yaml, line 3: kafka.{given}: is set by this program: {OURS[name]}"
    assert complaint(load, "", f"kafka.{given}=x").startswith(f"--set kafka.{given}: kafka.{given}: is set by")


def test_the_hints_name_the_setting_that_does_it(load: Load) -> None:
    assert "bucketer.start: earliest, latest or a time" in complaint(load, "", "kafka.auto.offset.reset=latest")
    assert "bucketer.group and counter.group" in complaint(load, "", "kafka.group_id=mine")


@pytest.mark.parametrize("name", ["error_cb", "on_commit", "stats.cb", "throttle_cb"])
def test_a_function_is_refused(load: Load, name: str) -> None:
    assert "takes a function" in complaint(load, "", f"kafka.{name}=x")


def test_one_setting_in_two_spellings_is_refused_in_the_file_and_overridden_by_either(load: Load) -> None:
    two = "kafka:\n  bootstrap_servers: h:1\n  fetch.max.bytes: 5\n"
    said = complaint(load, f"{two}  fetch_max_bytes: 6")
    assert said.startswith("config.yaml, line 4: kafka.fetch_max_bytes: is the same setting as kafka.fetch.max.bytes: ")
    assert load(two, "kafka.fetch_max_bytes=7").kafka == {"bootstrap_servers": ["h:1"], "fetch_max_bytes": 7}


@pytest.mark.parametrize("name", ["bootstrap_server", "bootstrap.server", "bootstrap_serves", "boostrap.servers"])
def test_a_misspelt_address_is_never_the_default_one(load: Load, name: str) -> None:
    said = f"kafka.{name}: unknown key: did you mean 'bootstrap_servers'?"
    assert complaint(load, f"kafka:\n  {name}: h:1") == f"config.yaml, line 2: {said}"
    assert complaint(load, "kafka: {bootstrap_servers: 'h:1'}", f"kafka.{name}=h:2") == f"--set kafka.{name}: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("client: kafka", "line 1: client: expected one of kafka-python, librdkafka, got 'kafka'"),
        ("\nframe:\n\n  ts_unit: m", "line 4: frame.ts_unit: expected one of s, ms, us, ns, got 'm'"),
        ("producer: {compression: lzma}", "expected one of none, gzip, snappy, lz4, zstd, got 'lzma'"),
        (
            "counter: {intervals: [minute, fortnight]}",
            "expected one of minute, 5 minutes, hour, day, week, month, year",
        ),
        ("broker:\n  version: 3.0.0", "line 2: broker.version: expected one of 4.3.1, 2.4.0, got '3.0.0'"),
    ],
)
def test_a_choice_that_is_none_lists_the_choices_and_the_line(load: Load, text: str, said: str) -> None:
    assert said in complaint(load, text)


def test_a_choice_on_the_command_line_is_named_as_such(load: Load) -> None:
    said = complaint(load, "log:\n  format: text", "log.format=xml")
    assert said == "--set log.format: log.format: expected one of text, json, got 'xml'"
    assert complaint(load, "topics:\n  feed: {}", "topics.feed={name: a, partitions: 0}").startswith(
        "--set topics.feed:"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log: {format: text}\ncounter: {}\nlog: {format: json}", "line 3: this key is already set in line 1"),
        ("counter:\n  group: a\n  save_seconds: 1\n  group: b", "line 4: this key is already set in line 2"),
        ("counter: {group: a, 'group': b}", "line 1: this key is already set in line 1"),
        ("kafka:\n  bootstrap_servers: h:1\n  sasl_plain_password: a\n  sasl_plain_password: b", "line 4: this key"),
    ],
)
def test_a_key_that_stands_twice_is_an_error_with_both_lines(load: Load, text: str, said: str) -> None:
    assert complaint(load, text).startswith(f"config.yaml: {said}")


def test_a_key_may_override_what_it_merges(load: Load) -> None:
    text = "topics:\n  feed: &a {partitions: 2, name: a}\n  counts: {<<: *a, name: b}"
    assert load(text).topics.counts.name == "b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "report_seconds: 5",
            "did you mean producer.report_seconds or bucketer.report_seconds or counter.report_seconds?",
        ),
        ("counter: {partition_by: uid}", "did you mean bucketer.partition_by?"),
        ("bucketer: {groups: a}", "did you mean 'group'?"),
    ],
)
def test_a_key_in_the_wrong_section_is_told_where_it_belongs(load: Load, text: str, said: str) -> None:
    assert complaint(load, text).endswith(said)


def test_a_name_goes_before_all_topics_and_groups_and_the_state_has_a_folder_of_its_own(load: Load) -> None:
    config = load("topics: {feed: {name: clicks}}", "name=shop")
    topics = config.topics
    assert [topic.name for topic in (topics.feed, topics.bucketed, topics.counts, topics.rejected)] == [
        "shop.clicks",
        "shop.bucketed",
        "shop.counts",
        "shop.rejected",
    ]
    assert (config.bucketer.group, config.counter.group) == ("shop.bucketer", "shop.counter")
    assert Path(config.state.directory) == Path("state/shop")
    assert config.broker.data == "data"
    assert topics.counts.settings == {"cleanup.policy": "compact", "segment.ms": 86_400_000}


@pytest.mark.parametrize("name", ["..", ".a", "-", "a/b", "a b", "ä", "x" * 101])
def test_a_name_that_is_no_prefix_is_refused(load: Load, name: str) -> None:
    assert "name: expected " in complaint(load, "", f"name='{name}'")
    assert "name: expected a prefix that keeps topic names within 249" in complaint(
        load, f"topics: {{feed: {{name: {'f' * 249}}}}}", "name=a"
    )


def test_paths_in_a_file_are_relative_to_it_and_others_to_the_working_directory(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load("state: {directory: here}")
    assert (config.state.directory, config.broker.data) == ("here", "data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file = str(Path(os.pardir) / "config.yaml")
    config = load_config(file, [], {})
    assert (Path(config.state.directory), Path(config.broker.data)) == (Path("../here"), Path("../data"))
    config = load_config(file, ["state.directory=there", "broker={data: d}"], {})
    assert (config.state.directory, config.broker.data) == ("there", "d")
    assert load_config(file, [f"state.directory={tmp_path}"], {}).state.directory == str(tmp_path)


def test_a_path_may_begin_with_the_home_directory(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    config = load(
        "{name: a, state: {directory: ~/here}, broker: {data: ~/d},"
        " kafka: {ssl.cafile: ~/ca.pem, sasl_plain_password: ~x}}",
        "producer.file=~/frames.gz",
    )
    assert Path(config.state.directory) == tmp_path / "here" / "a"
    assert Path(config.broker.data) == tmp_path / "d"
    assert Path(config.producer.file) == tmp_path / "frames.gz"
    assert Path(config.kafka["ssl.cafile"]) == tmp_path / "ca.pem"
    assert config.kafka["sasl_plain_password"] == "~x", "only paths have a home"
    assert "state.directory: begins with `~`" in complaint(load, "", "state.directory=~nobody-of-this-name/x")


def test_a_state_where_earlier_versions_had_it_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("settings")
    place.mkdir()
    (place / "config.yaml").write_text("", encoding="utf-8")
    file = str(place / "config.yaml")
    check_moved(load_config(file, [], {}), file)
    Path("state").mkdir()
    Path("state/bucketed-0.sqlite").touch()
    with pytest.raises(UsageError, match="move 'state' to 'settings/state', or name it with --set"):
        check_moved(load_config(file, [], {}), file)
    check_moved(load_config(file, ["state.directory=state"], {}), file)
    (place / "state").mkdir()
    check_moved(load_config(file, [], {}), file)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("earliest", 0),
        ("latest", None),
        ("2024-01-01T00:00:00Z", 1_704_067_200_000),
        ("2024-01-01 01:00:00.5+01:00", 1_704_067_200_500),
        ("1969-01-01T00:00:00Z", 0),
    ],
)
def test_a_start_is_one_of_two_words_or_a_time_quoted_or_not(load: Load, text: str, at: int | None) -> None:
    for written in (text, f"'{text}'"):
        assert start_of(load(f"bucketer: {{start: {written}}}").bucketer.start) == at
        assert start_of(load("", f"bucketer.start={written}").bucketer.start) == at


@pytest.mark.parametrize("text", ["newest", "2024-01-01T00:00:00", "2024-01-01", "12:00Z", "1704067200"])
def test_a_start_that_is_none_is_refused(load: Load, text: str) -> None:
    said = complaint(load, f"bucketer:\n  start: '{text}'")
    assert said.startswith("config.yaml, line 2: bucketer.start: expected earliest, latest, or a time with a zone")


@pytest.mark.parametrize("name", ['u"x', "u\\x", 'user.a"b'])
@pytest.mark.parametrize("key", ["uid", "ts"])
def test_a_field_that_the_parser_cannot_look_for_is_refused(load: Load, key: str, name: str) -> None:
    assert f"frame.{key}: expected a field without quotes and backslashes" in complaint(
        load, "", f"frame.{key}='{name}'"
    )


def test_a_path_has_levels_that_can_be_compiled(load: Load) -> None:
    deepest = ".".join("a" * 100)
    FrameParser(FrameFormat(**asdict(load("", f"frame.uid={deepest}").frame)))
    assert "frame.uid: expected a path of up to 100 levels" in complaint(load, "", f"frame.uid={deepest}.a")


@pytest.mark.parametrize("name", [".", ".."])
def test_a_topic_that_kafka_refuses_is_refused(load: Load, name: str) -> None:
    assert "but not `.` or `..`" in complaint(load, f"topics: {{feed: {{name: {name}}}}}")


def test_the_settings_of_a_topic_have_dots_on_the_command_line_too(load: Load) -> None:
    config = load("topics: {feed: {settings: {retention.ms: 1}}}", "topics.feed.settings.retention.ms=5")
    assert config.topics.feed.settings == {"retention.ms": 5}


@pytest.mark.parametrize("section", ["{}", "{security.protocol: SSL}"])
def test_the_brokers_have_their_default_whatever_else_is_set(load: Load, section: str) -> None:
    assert load(f"kafka: {section}").bootstrap_servers == ["localhost:9092"]


@pytest.mark.parametrize("value", ["[userId,", "[userId,anonymousId", "{", "{a: b", "[a]]"])
def test_a_list_that_the_shell_cut_is_no_name_of_a_field(load: Load, value: str) -> None:
    said = complaint(load, "", f"frame.uid={value}")
    assert said == "--set frame.uid: this list or section is not valid YAML: put it in quotes, as in --set 'key=[a, b]'"
    assert load("", f"kafka.sasl_plain_password={value}").kafka["sasl_plain_password"] == value
