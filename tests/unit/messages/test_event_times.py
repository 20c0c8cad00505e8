"""Event times as columns and one by one."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unique_users.messages.event_times import TS_MAX, UNITS, EventTimes

T = 1_716_200_040


def one_by_one(times: EventTimes, values: list[object]) -> list[int] | None:
    try:
        return [times.seconds(value) for value in values]
    except ValueError:
        return None


zones = st.sampled_from(
    ["Z", "z", " UTC", "UTC", "+00:00", "+0000", " +0000", "-08", "+05:30", "+24:00", "+02:00[Europe/Berlin]", ""]
)
fractions = st.sampled_from(["", ".5", ".123", ",123", ".123456789", ".999999999"])
moments = st.one_of(
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.sampled_from([datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30)]),  # noqa: DTZ001
)
isos = st.builds(
    lambda moment, between, fraction, zone: f"{moment:%Y-%m-%d}{between}{moment:%H:%M:%S}{fraction}{zone}",
    moments,
    st.sampled_from(["T", "t", " "]),
    fractions,
    zones,
)
odd = ["", "x", "2024-05-20T10:14Z", "5\n6", "2024-13-20T10:14:00Z", "2016-12-31T23:59:60Z"]
two_lines = "2024-05-20T10:14:00Z\n2024-05-20T10:14:00Z"
texts = st.one_of(isos, st.integers(0, 2**70).map(str), st.sampled_from([*odd, two_lines]))


@settings(max_examples=400)
@given(
    st.one_of(
        st.lists(isos, min_size=1, max_size=4),
        st.lists(texts, min_size=1, max_size=4),
        st.builds(lambda one, count: [one] * count, isos, st.integers(1, 3)),
        st.lists(st.integers(1, TS_MAX), min_size=1, max_size=4),
        st.lists(st.floats(1, TS_MAX) | st.integers(1, TS_MAX), min_size=1, max_size=4),
    ),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from([None, "UTC", "Europe/Berlin", "America/St_Johns"]),
)
@example(["2024-05-20T10:14:00+02:00", "2024-05-20T10:14:00+01:00"], "s", None)
@example(["2024-05-20T10:14:00.5+02:00", "2024-05-20T10:14:00+02:00"], "s", None)
def test_a_column_is_converted_as_each_of_its_times(values: list[object], unit: str, timezone: str | None) -> None:
    times = EventTimes(unit, timezone)
    column = EventTimes(unit, timezone).column(values)
    if column is not None:
        assert column == one_by_one(times, values)


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-05-20T10:14:00Z"] * 3,
        ["2024-05-20T10:14:00.123Z", "2024-05-20T10:14:00.5Z"],
        ["2024-05-20T10:14:00+02:00", "2024-05-20 10:14:01+02:00"],
        ["2024-05-20 10:14:00 UTC"],
        ["1716200040", "1716200041"],
    ],
)
def test_times_that_are_alike_are_converted_as_a_column(texts: list[str]) -> None:
    assert EventTimes().column(texts) == one_by_one(EventTimes(), list[object](texts))


@given(moments, st.sampled_from(["Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "UTC"]))
def test_a_time_without_a_zone_is_in_the_configured_one(moment: datetime, zone: str) -> None:
    """Of a time that comes twice, the first; one that is skipped counts as if clocks had not been changed yet."""
    moment = moment.replace(microsecond=0)
    expected = int((moment.replace(tzinfo=ZoneInfo(zone), fold=0) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    if expected >= 0:
        assert EventTimes(timezone=zone).seconds(f"{moment:%Y-%m-%dT%H:%M:%S}") == expected


@pytest.mark.parametrize(("unit", "per_second"), UNITS.items())
@pytest.mark.parametrize("as_text", [False, True])
def test_numbers_are_in_the_configured_unit(unit: str, per_second: int, as_text: bool) -> None:  # noqa: FBT001
    value: object = T * per_second + per_second - 1
    assert EventTimes(unit).seconds(str(value) if as_text else value) == T


def test_thousands_of_different_times_are_converted_and_not_all_remembered() -> None:
    times = EventTimes()
    for start in range(0, 50_000, 500):
        moments = [datetime.fromtimestamp(T + start + i, UTC) for i in range(500)]
        column = times.column([moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments])
        assert column == [T + start + i for i in range(500)]
    assert len(times._utc) <= 20_000


@pytest.mark.parametrize("unit", UNITS)
def test_the_earliest_time_may_be_any_day_in_any_unit(unit: str) -> None:
    earliest = TS_MAX - 86_399  # 9999-12-31
    times = EventTimes(unit, earliest=earliest)
    decode = msgspec.json.Decoder(times.usual_type()).decode
    for value in (b"1716200040", b"9223372036854775807", str(earliest * UNITS[unit] - 1).encode()):
        with pytest.raises(msgspec.ValidationError):
            decode(value)
    assert times.seconds(earliest * UNITS[unit]) == earliest
