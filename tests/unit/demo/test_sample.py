import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pytest

from unique_users.commands import sample as sample_command
from unique_users.config.schema import Config
from unique_users.demo.sample import LATE_SECONDS_MAX, START, frames, write_sample
from unique_users.errors import InputError
from unique_users.queries.recount import recount

COUNT = 10_000


@pytest.fixture(scope="module")
def sample() -> list[bytes]:
    return list(frames(COUNT))


@pytest.fixture(scope="module")
def decoded(sample: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in sample]


def lateness(decoded: list[dict[str, Any]]) -> list[int]:
    times = [frame["ts"] for frame in decoded]
    return [newest - time for newest, time in zip(accumulate(times, max), times, strict=True) if time < newest]


def nested(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from nested(member)


def test_the_same_seed_makes_the_same_frames_and_another_one_others(sample: list[bytes]) -> None:
    assert list(frames(COUNT)) == sample
    assert list(frames(COUNT, seed=2)) != sample


def test_a_frame_is_one_line_of_about_two_kilobytes(sample: list[bytes]) -> None:
    assert not any(b"\n" in frame for frame in sample)
    assert 1_900 < sum(map(len, sample)) / COUNT < 2_200
    assert 1_500 < min(map(len, sample)) < max(map(len, sample)) < 4_000


def test_every_frame_is_accepted(sample: list[bytes]) -> None:
    counts = recount(sample, Config(), START * 1000).counts
    assert (counts.read, counts.accepted) == (COUNT, COUNT)


def test_the_counts_are_those_of_a_plain_json_recount(sample: list[bytes], decoded: list[dict[str, Any]]) -> None:
    users: defaultdict[int, set[str]] = defaultdict(set)
    for frame in decoded:
        users[frame["ts"] // 60 * 60].add(frame["uid"])
    assert recount(sample, Config(), START * 1000).users == users


def test_user_and_time_stand_anywhere_among_the_keys_in_any_order(decoded: list[dict[str, Any]]) -> None:
    places = [(list(frame).index("uid"), list(frame).index("ts")) for frame in decoded]
    assert min(uid for uid, _ in places) == min(ts for _, ts in places) == 0
    assert {uid < ts for uid, ts in places} == {True, False}
    assert len({uid for uid, _ in places}) > 10


def test_a_user_is_nineteen_hex_digits_and_some_users_return(decoded: list[dict[str, Any]]) -> None:
    users = {frame["uid"] for frame in decoded}
    assert all(len(user) == 19 and int(user, 16) >= 0 for user in users)
    assert COUNT // 2 < len(users) < COUNT


def test_nested_objects_hold_decoys_of_other_types(decoded: list[dict[str, Any]]) -> None:
    inner = [node for frame in decoded for value in frame.values() for node in nested(value)]
    assert {type(node["uid"]) for node in inner if "uid" in node} >= {dict, list, int, bool, type(None)}
    assert {type(node["ts"]) for node in inner if "ts" in node} >= {dict, list, str, bool, type(None)}


def test_texts_hold_escapes_and_cyrillic_both_raw_and_escaped(sample: list[bytes]) -> None:
    for text in ("кот".encode(), rb"\u043a\u043e\u0442", rb"\"", rb"\\", rb"\n", rb"\t"):
        assert sum(text in frame for frame in sample) > COUNT // 20


def test_about_three_percent_come_late_by_up_to_a_hundred_seconds(decoded: list[dict[str, Any]]) -> None:
    late = lateness(decoded)
    assert 0.025 < len(late) / COUNT < 0.035
    assert (min(late), LATE_SECONDS_MAX - 5 < max(late) <= LATE_SECONDS_MAX) == (1, True)


def test_event_time_covers_the_seconds_asked_for() -> None:
    times = [json.loads(frame)["ts"] for frame in frames(5_000, users=10, seconds=1_020, start=6_000)]
    assert max(times) == 6_000 + 1_019
    assert sum(time < 6_000 for time in times) < 20


def test_a_large_stream_is_made_on_the_fly() -> None:
    assert len(list(islice(frames(1_000_000_000, users=100_000, seconds=1_020), 10))) == 10


def test_a_written_sample_holds_the_frames_and_is_the_same_every_time(tmp_path: Path) -> None:
    one, other = tmp_path / "stream.gz", tmp_path / "other.gz"
    write_sample(one, 300)
    write_sample(other, 300)
    assert one.read_bytes() == other.read_bytes()
    assert gzip.decompress(one.read_bytes()).splitlines() == list(frames(300))
    assert sorted(tmp_path.iterdir()) == [other, one]


def test_a_sample_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "stream.gz").mkdir()
    with pytest.raises(OSError, match=r"stream\.gz"):
        write_sample(tmp_path / "stream.gz", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["stream.gz"]


def test_the_command_writes_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "stream.gz"
    caplog.set_level("INFO")
    assert sample_command.main(["--config", "", str(path)]) == 0
    with gzip.open(path) as lines:
        assert sum(1 for _ in lines) == 30_000
    path.write_bytes(b"mine")
    assert sample_command.main(["--config", "", "--set", f"producer.file={path}"]) == 0
    assert path.read_bytes() == b"mine"
    assert caplog.messages == [f"{path}: 30,000 frames", f"{path} exists: left as it is"]


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*: No such file or directory: name another file"):
        sample_command.main(["--config", "", str(tmp_path / "nowhere" / "stream.gz")])
