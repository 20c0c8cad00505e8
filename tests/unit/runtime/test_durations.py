"""How long a wait has lasted is said in words."""

import pytest

from unique_users.runtime.waits import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (60, "1 min"),
        (119, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h 0 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said
