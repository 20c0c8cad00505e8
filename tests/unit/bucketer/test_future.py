"""Who finds a frame among the dead letters as `future` sees whether its record's time is the one that is wrong."""

import pytest

from unique_users.bucketer.future import ahead

NOW = 1_468_244_400


@pytest.mark.parametrize(
    ("timestamp_ms", "end"),
    [
        (0, "the record's time is 0, so its producer sets none"),
        (NOW, "the record's time 1468244400 looks like seconds, but Kafka's are in milliseconds"),
        ((NOW - 7_200) * 1000, "the record's time is 2016-07-11T11:40:00Z"),
    ],
)
def test_the_detail_names_the_setting_and_what_the_record_says(timestamp_ms: int, end: str) -> None:
    seconds = NOW - timestamp_ms // 1000
    expected = f"{seconds} s ahead of its record, more than bucketer.future_seconds_max: {end}"
    assert ahead(NOW, timestamp_ms) == expected
