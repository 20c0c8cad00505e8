"""Which bucket is open, what is shown large, and what is not known."""

from page_server import LIVE, NOON, found, minute

from unique_users.dashboard.board import Board, Row
from unique_users.event_time.buckets import Bucket, Calendar
from unique_users.queries.published import BucketRange


def board_of(counts: dict[Bucket, int], intervals: tuple[str, ...] = ("minute",), zone: str = "UTC") -> Board:
    board = Board(intervals, Calendar(zone))
    board.update(counts, {bucket: found(users) for bucket, users in counts.items()})
    board.complete, board.state = True, LIVE
    for name in intervals:
        board.holds_from(name, 0)
    return board


def users(row: Row | None) -> int | None:
    return None if row is None else row.unique_users


def test_the_newest_minute_is_open_and_the_ones_before_are_closed() -> None:
    board = board_of({minute(0): 4, minute(-1): 9, minute(-2): 8, minute(-1_441): 7})
    assert [users(row) for row in board.figures("minute")] == [4, 9, 8, 7]
    assert board.last("minute", 180) == BucketRange("minute", NOON - 120, NOON + 60)


def test_a_minute_ahead_of_both_clocks_is_not_the_present() -> None:
    board = board_of({minute(0): 4, minute(-1): 9, minute(50): 1})
    assert board.open_start("minute") == NOON


def test_in_a_replay_of_another_day_the_streams_own_clock_decides() -> None:
    board = board_of({minute(0): 4, minute(50): 1})
    board.state = LIVE._replace(newest_frame=NOON + 400 * 86_400)
    assert board.open_start("minute") == NOON


def test_a_minute_without_users_has_none_and_one_that_is_not_held_is_not_known() -> None:
    board = board_of({minute(0): 4, minute(-2): 8})
    figures = board.figures("minute")
    assert users(figures.closed) == 0
    assert figures.earlier is None
    assert board_of({}).figures("minute") == (None, None, None, None)


def test_a_range_that_begins_before_the_window_is_not_held() -> None:
    board = board_of({minute(0): 4, minute(-5): 1})
    board.holds_from("minute", minute(-1).start)
    assert board.rows(BucketRange("minute", minute(-2).start, NOON + 60)) is None
    assert [users(row) for row in board.rows(BucketRange("minute", minute(-1).start, NOON + 60)) or []] == [4]
    board.complete = False
    assert board.rows(BucketRange("minute", minute(-1).start, NOON + 60)) is None


def test_days_follow_the_calendar_and_are_compared_with_the_week_before() -> None:
    calendar = Calendar("Europe/Berlin")
    day = Bucket("day", calendar.start("day", NOON))
    earlier = Bucket("day", calendar.start("day", NOON - 7 * 86_400))
    board = board_of({minute(0): 4, day: 40, earlier: 30}, ("minute", "day"), "Europe/Berlin")
    figures = board.figures("day")
    assert (users(figures.open), users(figures.closed)) == (40, 0)
    assert figures.open is not None
    assert figures.open.end - figures.open.start == 86_400


def test_only_what_changed_is_told_and_what_is_gone_by_its_start() -> None:
    board = board_of({minute(0): 4, minute(-1): 9})
    same_and_new = {minute(0): found(4), minute(-1): found(10, 9)}
    told = board.update(same_and_new, same_and_new)
    assert told == {"minute": [Row(NOON - 60, NOON, 10, 9, None, None, ())]}
    assert board.update({minute(-1)}, {}) == {"minute": [NOON - 60]}
