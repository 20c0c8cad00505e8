"""What version 0.1 left behind is continued exactly."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from repository import ROOT

from unique_users.aggregation.bucket_users import Origin
from unique_users.aggregation.counts import Count, Estimate
from unique_users.counter.drop_guard import refuse_drops
from unique_users.errors import UsageError
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.event_time.rollup import Rollup, Rule
from unique_users.state.store import Store, Stores

SAVED = ROOT / "tests" / "data" / "version-0.1"
ORIGIN = Origin("bucketed", "8c6f7a3e-0000-4000-8000-000000000001", 0, 1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(SAVED / "bucketed-0.sqlite", tmp_path)
    return tmp_path


def saved_counts() -> dict[Bucket, Count]:
    saved = json.loads((SAVED / "counts.json").read_text(encoding="utf-8"))["counts"]
    return {
        Bucket(name, int(start)): Estimate(*n) if isinstance(n, list) else n
        for name, start, n in ((*key.rsplit(":", 1), n) for key, n in saved.items())
    }


def test_a_state_of_form_2_is_continued(directory: Path) -> None:
    for _ in range(2):  # brought to this form, then opened in it
        store = Store(directory, ORIGIN)
        assert store.counts == saved_counts()
        assert store.next_offset == 800
        for bucket, count in store.counts.items():
            if isinstance(count, Estimate):
                assert store.load_sketch(bucket).estimate() == count
            else:
                assert len(set(store.load(bucket))) == count
        store.close()


def test_a_start_that_is_refused_leaves_a_state_of_form_2_as_it_is(directory: Path) -> None:
    before = (directory / "bucketed-0.sqlite").read_bytes()
    (state,) = Stores(directory).look("bucketed")
    assert state.counts == saved_counts()
    with pytest.raises(UsageError, match=r"put month back into counter\.intervals"):
        refuse_drops([state], Rollup(Calendar()), 60, [])
    kept = Rollup(Calendar(state.intervals["month"].zone), state.intervals, estimates_of(state.intervals))
    refuse_drops([state], kept, 60, [])  # its retention is not known
    assert (directory / "bucketed-0.sqlite").read_bytes() == before


def estimates_of(intervals: Mapping[str, Rule]) -> list[str]:
    return [name for name, rule in intervals.items() if rule.kind == "estimate"]
