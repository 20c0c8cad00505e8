"""Queries: any range of minutes, united over minutes and partitions, equals plain sets."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unique_users.errors import UsageError
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.queries.ranges import Answer, Range, answers, duration_seconds, last, minute_of
from unique_users.state.metadata import Facts

NOON = 1_468_238_400  # 2016-07-11T12:00:00Z
BERLIN = Calendar("Europe/Berlin")


class Held:
    """A state in memory."""

    def __init__(self, users: Mapping[int, set[str]], floor: int = 0) -> None:
        self.floor = floor
        self.facts = Facts()
        self._users = {Bucket("minute", start): uids for start, uids in users.items()}

    @property
    def counts(self) -> dict[Bucket, int]:
        # A wide bucket must not be taken for a minute.
        return {Bucket("hour", NOON): 99, **{bucket: len(uids) for bucket, uids in self._users.items()}}

    def load(self, bucket: Bucket) -> set[str]:
        return self._users[bucket]


def ask(states: Sequence[Held], asked: Range, by: str | None = None, calendar: Calendar = BERLIN) -> list[Answer]:
    return list(answers(states, asked, by, calendar))


USERS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 200), st.sampled_from("abcdefgh")), max_size=60)


@given(USERS, st.integers(0, 200), st.integers(1, 200), st.sampled_from([None, "minute", "5 minutes", "hour", "day"]))
def test_any_range_split_in_any_way_equals_plain_sets(
    seen: list[tuple[int, int, str]], first: int, length: int, by: str | None
) -> None:
    partitions: list[defaultdict[int, set[str]]] = [defaultdict(set), defaultdict(set)]
    for partition, minute, uid in seen:
        partitions[partition][NOON + 60 * minute].add(uid)
    asked = Range(NOON + 60 * first, NOON + 60 * (first + length))
    found = ask([Held(users) for users in partitions], asked, by)
    assert [answer.range.start for answer in found[1:]] == [answer.range.end for answer in found[:-1]]
    assert (found[0].range.start, found[-1].range.end) == asked
    for answer in found:
        expected = {uid for _, m, uid in seen if answer.range.start <= NOON + 60 * m < answer.range.end}
        assert answer.unique_users == len(expected)


def test_parts_are_the_calendars_buckets_cut_to_the_range() -> None:
    # Berlin, 2016-10-30, a day of 25 hours:
    #      Oct 29 21:00Z   22:00Z = midnight           Oct 30 23:00Z = midnight    Oct 31 01:00Z
    # ─────────┤──────────────┤─────────── 25 h ────────────┤──────────────────────────┤
    asked = Range(minute_of("2016-10-29T21:00:00Z"), minute_of("2016-10-31T01:00:00Z"))
    assert [(end - start) // 3600 for start, end in asked.split("day", BERLIN)] == [1, 25, 2]


def test_the_last_minutes_end_with_the_newest_one_that_any_partition_holds() -> None:
    states = [Held({NOON: {"a"}}), Held({NOON + 600: {"b"}})]
    assert last(states, duration_seconds("10 minutes")) == Range(NOON + 60, NOON + 660)
    assert ask(states, last(states, 600))[0].unique_users == 1
    assert ask(states, last(states, 660))[0].unique_users == 2


def test_minutes_that_have_left_the_state_are_refused_not_counted_as_empty() -> None:
    states = [Held({NOON + 600: {"a"}}, floor=NOON + 600), Held({})]
    with pytest.raises(UsageError, match=r"before 2016-07-11T12:10:00Z are no longer kept"):
        ask(states, Range(NOON, NOON + 1200))
    assert ask(states, Range(NOON + 600, NOON + 1200))[0].unique_users == 1


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(UsageError, match="ends after its start"):
        ask([Held({})], Range(NOON, NOON))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("yesterday", "expected a time like"),
        ("2016-07-11T13:39:00", "has no time zone"),
        ("2016-07-11T13:39:01Z", "not a whole minute"),
        ("2016-07-11T13:39:00.5Z", "not a whole minute"),
    ],
)
def test_a_time_is_never_guessed(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        minute_of(text)


def test_times_and_durations() -> None:
    assert minute_of("2016-07-11T14:00:00+02:00") == NOON
    assert [duration_seconds(t) for t in ("1 minute", "15minutes", "2 hours", "1 day", "2 weeks")] == [
        60, 900, 7200, 86_400, 14 * 86_400,
    ]  # fmt: skip
    for text in ("15", "0 minutes", "1 month", "-1 hours"):
        with pytest.raises(UsageError, match="expected a duration"):
            duration_seconds(text)


def test_an_answer_is_one_line() -> None:
    answer = Answer(Range(NOON, NOON + 3600), 12_345)
    assert answer.line("text", None, BERLIN) == "2016-07-11T12:00:00Z  2016-07-11T13:00:00Z  12,345 unique users"
    assert answer.line("json", "day", BERLIN) == (
        '{"from":"2016-07-11T14:00:00+02:00","to":"2016-07-11T15:00:00+02:00","unique_users":12345}'
    )


def test_nothing_saved_yet_is_said() -> None:
    with pytest.raises(UsageError, match="no minute is saved yet"):
        last([Held({})], 60)
