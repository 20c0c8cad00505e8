"""Which partition gets the next frame where one of them is to get few."""

SELDOM = 50


def unevenly(turn: int, partitions: int) -> int:
    """The partition whose turn it is: 0 once in a while, the others all the time."""
    return 0 if turn % SELDOM == 0 else 1 + turn % (partitions - 1)
