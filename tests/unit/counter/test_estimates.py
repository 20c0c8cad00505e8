"""Estimated intervals: what a counter estimates is what one sketch of all users says, whatever happened."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from brokers import config_for
from counted_intervals import CRASH, ORIGIN, SAVE, TIMES, ZONES, Counted
from fake_counter import Counter
from fakes import FakeKafka
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("datasketches", reason="estimates need the package datasketches")

from repository import ROOT

from unique_users.aggregation.counts import Count, Estimate, add_up
from unique_users.aggregation.sketches import Sketch
from unique_users.commands.arguments import require_estimates
from unique_users.errors import StateError, UsageError
from unique_users.event_time.buckets import INTERVALS, Bucket, Calendar
from unique_users.event_time.rollup import Rollup
from unique_users.messages.counts import PublishedCount, encode_count
from unique_users.messages.merged_counts import PublishedBucket, merged_buckets
from unique_users.queries.comparison import differences
from unique_users.queries.recount import recount
from unique_users.state.store import Store

AGAIN = "AGAIN"
DAY = Bucket("day", Calendar().start("day", TIMES[0]))

few = st.sets(st.sampled_from(INTERVALS))
changes = st.tuples(few, st.sampled_from(ZONES), few)
records = st.tuples(st.sampled_from(TIMES), st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3))
events = st.lists(records | records | st.sampled_from([CRASH, SAVE, AGAIN]) | changes.map(list), max_size=25)


def sketch_of(uids: set[str]) -> Sketch:
    sketch = Sketch()
    sketch.add(uids)
    return sketch


def crowd(letters: set[str]) -> set[str]:
    """Forty users for each letter."""
    return {f"{letter}{number}" for letter in letters for number in range(40)}


def users_by_bucket(counted: Counted) -> dict[Bucket, set[str]]:
    users: dict[Bucket, set[str]] = {}
    for minute, uids in counted.log:
        for name in counted.rollup.intervals:
            users.setdefault(Bucket(name, counted.rollup.calendar.start(name, minute)), set()).update(uids)
    return users


def plain(counted: Counted) -> dict[Bucket, Count]:
    """The counts by a set or one sketch for each bucket."""
    return {
        bucket: sketch_of(users).estimate() if bucket.interval in counted.rollup.estimates else len(users)
        for bucket, users in users_by_bucket(counted).items()
    }


@settings(max_examples=120)
@given(events, st.integers(0, 300), st.integers(0, 3))
def test_an_estimate_is_that_of_an_undisturbed_run_whatever_happens(
    events: Sequence[Any], uids_max: int, sketches_max: int
) -> None:
    """records, saves, crashes, repetitions, other intervals, zones and kinds in any order, with any memory"""
    with TemporaryDirectory() as directory, patch("unique_users.aggregation.bucket_users.SKETCHES_MAX", sketches_max):
        counted = Counted(Path(directory), uids_max)
        counted.ledger.close()
        counted.rollup = Rollup(Calendar(), INTERVALS, ["hour", "week", "month"])
        counted.open()
        for event in events:
            if event == SAVE:
                counted.ledger.save()
            elif event == CRASH:
                counted.ledger.close()
                counted.open()
            elif event == AGAIN:
                counted.ledger.position = 0
            elif isinstance(event, list):
                intervals, zone, estimates = event
                counted.ledger.close()
                counted.rollup = Rollup(Calendar(zone), intervals, (estimates & intervals) - {"minute"})
                counted.open()
            else:
                counted.log.append((event[0], crowd(event[1])))
            counted.read_on()
            assert counted.counts() == plain(counted)
        counted.ledger.save()
        counted.ledger.close()
        store = Store(Path(directory), ORIGIN)
        assert store.counts == plain(counted)
        for bucket, users in users_by_bucket(counted).items():
            if bucket.interval in counted.rollup.estimates:
                assert store.load_sketch(bucket).to_bytes() == sketch_of(users).to_bytes()
            else:
                assert set(store.load(bucket)) == users
        store.close()


def test_a_save_writes_the_sketches_that_changed_and_no_others(tmp_path: Path) -> None:
    counted = Counted(tmp_path, 1_000)
    counted.ledger.close()
    counted.rollup = Rollup(Calendar(), ["day", "month"], ["day"])
    counted.open()
    counted.log = [(TIMES[0], {"a"}), (TIMES[-1], {"b"})]
    counted.read_on()
    users = counted.ledger._users
    assert len(users.unsaved_sketches()) == 2
    counted.ledger.save()
    counted.log += [(TIMES[0] + 60, {"a"}), (TIMES[-1], {"c"})]
    counted.read_on()
    assert list(users.unsaved_sketches()) == [Bucket("day", Calendar().start("day", TIMES[-1]))]
    assert "day" not in {bucket.interval for bucket in users._users}, "no uids of estimated buckets in memory"
    counted.ledger.close()


def test_the_source_of_a_bucket_is_always_an_exact_one() -> None:
    rollup = Rollup(Calendar(), INTERVALS, ["hour", "day", "year"])
    steps = rollup.steps(TIMES[0])
    assert [steps[step.source].bucket.interval for step in steps] == [
        "minute", "minute", "5 minutes", "5 minutes", "5 minutes", "week", "month",
    ]  # fmt: skip


def write_days(directory: Path) -> None:
    """A saved state with two estimated days."""
    counted = Counted(directory, 1_000)
    counted.ledger.close()
    counted.rollup = Rollup(Calendar(), ["day"], ["day"])
    counted.open()
    counted.log = [(TIMES[0], crowd({"a", "b"})), (TIMES[-1], crowd({"c"}))]
    counted.read_on()
    counted.ledger.save()
    counted.ledger.close()


OTHER = f"(SELECT sketch, checksum FROM sketches WHERE start != {DAY.start})"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE sketches SET sketch = CAST(x'00' || substr(sketch, 2) AS BLOB)", "checksum of a sketch"),
        ("UPDATE sketches SET sketch = substr(sketch, 1, 20)", "checksum of a sketch"),
        ("UPDATE sketches SET sketch = x''", "checksum of a sketch"),
        ("UPDATE sketches SET checksum = x''", "checksum of a sketch"),
        (f"UPDATE sketches SET (sketch, checksum) = {OTHER} WHERE start = {DAY.start}", "the sketch of day .* says"),
        ("DELETE FROM sketches", "the sketch of day .* says 0"),
        ("DROP TABLE sketches", "no such table"),
    ],
)
def test_a_damaged_sketch_is_a_clear_error_when_it_is_read(tmp_path: Path, statement: str, said: str) -> None:
    write_days(tmp_path)
    with sqlite3.connect(tmp_path / "bucketed-0.sqlite") as db:
        db.execute(statement)
    db.close()
    store = Store(tmp_path, ORIGIN)
    with pytest.raises(StateError, match=said):
        store.load_sketch(DAY)
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE intervals SET kind = 'exact' WHERE name = 'day'",
        "UPDATE buckets SET lower = lower - 1 WHERE interval = 'day'",
        "UPDATE buckets SET lower = NULL, upper = NULL WHERE interval = 'day'",
    ],
)
def test_kinds_and_bounds_are_sealed(tmp_path: Path, statement: str) -> None:
    write_days(tmp_path)
    with sqlite3.connect(tmp_path / "bucketed-0.sqlite") as db:
        db.execute(statement)
    db.close()
    with pytest.raises(StateError, match="checksum of counts"):
        Store(tmp_path, ORIGIN)


def test_report_counts_and_recount_say_the_same_estimates(
    kafka: FakeKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also after a crash; and a counter that is told so estimates no longer."""
    rules: dict[str, Any] = {"intervals": ["minute", "day"], "estimates": ["day"], "timezone": "Europe/Berlin"}
    counter = Counter(kafka, tmp_path, **rules)
    frames = [json.dumps({"uid": uid, "ts": TIMES[0]}).encode() for uid in sorted(crowd(set("abcdef")))]
    counter.step()
    for uid in sorted(crowd(set("abcdef"))):
        counter.put(uid, TIMES[0])
    for _ in range(5):
        counter.step()
        counter.clock.advance(1)
    counter.crash()
    counter.start()
    for _ in range(5):
        counter.step()
        counter.clock.advance(1)
    calendar = Calendar("Europe/Berlin")
    day = Bucket("day", calendar.start("day", TIMES[0]))
    estimate = sketch_of(crowd(set("abcdef"))).estimate()
    counter.finish("text")
    line = f"{calendar.text(day)}  day  {estimate.unique_users} unique users ({estimate.lower} to {estimate.upper})"
    assert f"{line}  +{estimate.unique_users}\n" in capsys.readouterr().out
    counter.finish("json")
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    (said,) = [line for line in lines if line.get("interval") == "day"]
    assert (said["unique_users"], said["lower"], said["upper"]) == estimate
    published = counter.all_published()
    assert published[day] == estimate
    recounted = recount(frames, counter.config, TIMES[0] * 1000).buckets(rules["intervals"], calendar, ["day"])
    assert differences(recounted, published) == []
    counter.config = config_for(
        "fake:1", counter={**rules, "estimates": []}, state={"directory": counter.config.state.directory}
    )
    counter.drop = ["day"]
    counter.finish()
    assert counter.all_published()[day] == 240


def test_estimates_of_partitions_are_merged_to_those_of_all_users() -> None:
    parts = [crowd(set("ab")), crowd(set("cde")), crowd(set("f"))]
    sketches = [sketch_of(users) for users in parts]
    values = [
        encode_count(DAY, number, sketch.estimate(), Calendar(), sketch.to_bytes())[1]
        for number, sketch in enumerate(sketches)
    ]
    earlier = sketch_of(crowd(set("a")))
    values.append(encode_count(DAY, 0, earlier.estimate(), Calendar(), earlier.to_bytes())[1])
    assert merged_buckets(values) == {DAY: PublishedBucket(sketch_of(set().union(*parts)).estimate())}
    fields = json.loads(values[0])
    assert set(fields) == set(PublishedCount.__struct_fields__) - {"generation", "whole", "why", "at_end"}


def test_estimates_are_added_up_where_a_sketch_is_damaged_or_the_package_is_missing() -> None:
    sketches = [sketch_of(crowd(set("ab"))), sketch_of(crowd(set("c")))]
    total = add_up(sketch.estimate() for sketch in sketches)
    values = [
        encode_count(DAY, number, sketch.estimate(), Calendar(), sketch.to_bytes())[1]
        for number, sketch in enumerate(sketches)
    ]
    broken = json.loads(values[0])
    broken["checksum"] = "AAAA"
    assert merged_buckets([json.dumps(broken).encode(), values[1]]) == {DAY: PublishedBucket(total)}
    with patch("unique_users.messages.merged_counts.sketch_class", side_effect=ImportError):
        assert merged_buckets(values) == {DAY: PublishedBucket(total)}


def test_exact_and_estimated_counts_add_up() -> None:
    assert add_up([3, 4]) == 7
    assert add_up([]) == 0
    assert add_up([3, Estimate(10, 9, 12)]) == Estimate(13, 12, 15)


def test_without_the_package_estimates_are_refused_and_nothing_else_needs_it(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['datasketches'] = None; sys.argv = sys.argv[1:]; "
    scripts = "from unique_users.commands import bucketer, counter, demo, producer, query, recount;"
    scripts += "assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", hidden + scripts], cwd=ROOT, check=True)
    (tmp_path / "config.yaml").write_text("counter: {intervals: [minute, day], estimates: [day]}")
    for script in (["counter"], ["recount", "no-file"]):
        run = f"{hidden} import runpy; runpy.run_module('unique_users', run_name='__main__', alter_sys=True)"
        command = [sys.executable, "-c", run, "unique-users", *script, "--config", str(tmp_path / "config.yaml")]
        ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert ended.returncode == 2
        assert "pip install 'unique-users[estimates]'" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_with_the_package_estimates_are_welcome() -> None:
    require_estimates(config_for("h:1", counter={"intervals": ["day"], "estimates": ["day"]}))
    with (
        patch("unique_users.commands.arguments.sketch_class", side_effect=ImportError("none")),
        pytest.raises(UsageError, match=r"counter\.estimates: needs the package datasketches"),
    ):
        require_estimates(config_for("h:1", counter={"intervals": ["day"], "estimates": ["day"]}))
