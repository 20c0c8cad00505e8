"""The search for the end of a batch that librdkafka cannot unpack, against a log that answers as librdkafka does."""

from hypothesis import given
from hypothesis import strategies as st

from unique_users.clients.librdkafka.unreadable_batches import Search


def searched(base: int, start: int, log_end: int, bad: dict[int, int]) -> tuple[int, int]:
    """The end that is found, and in how many readings; `bad` are batches that cannot be unpacked, base and end."""
    search = Search(base, start, log_end, 0)
    readings = 0
    while search.probe is not None:
        assert search.inside < search.probe < search.outside
        readings += 1
        error = next((first for first, end in bad.items() if first <= search.probe < end), None)
        if error is None:
            search.readable()
        else:
            search.error(error)
    return search.outside, readings


def test_a_batch_of_one_record_is_passed_after_one_reading() -> None:
    assert searched(5, 5, 1_000_000, {5: 6}) == (6, 1)


def test_the_last_record_of_a_log_is_passed_without_a_reading() -> None:
    assert searched(5, 5, 6, {5: 6}) == (6, 0)


@given(st.integers(0, 1_000), st.integers(1, 200_000), st.integers(0, 200_000), st.integers(1, 500), st.data())
def test_the_end_is_found_in_few_readings(base: int, count: int, more: int, other: int, data: st.DataObject) -> None:
    end = base + count
    start = data.draw(st.integers(base, end - 1))
    bad = {base: end, end + more // 2: end + more // 2 + other}
    found, readings = searched(base, start, end + more + other, bad)
    assert found == end
    assert readings <= 25


def test_an_answer_that_comes_when_the_end_is_found_changes_nothing() -> None:
    search = Search(5, 5, 6, 0)
    search.error(5)
    search.readable()
    assert (search.outside, search.probe) == (6, None)
