"""Something that is looked at again and again in the background."""

from threading import Event

from patience import LIMIT_SECONDS

from unique_users.runtime.repeating import Repeating


def test_it_looks_again_and_again_until_it_is_closed() -> None:
    looks, enough = [], Event()

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            enough.set()

    repeating = Repeating("look", 0.001, look)
    assert enough.wait(LIMIT_SECONDS)
    assert repeating.close(LIMIT_SECONDS)
    so_far = len(looks)
    assert not repeating._thread.is_alive()
    assert len(looks) == so_far


def test_the_first_look_may_wait() -> None:
    looked = Event()
    repeating = Repeating("look", 0, looked.set, first_in=3600)
    assert repeating.close(LIMIT_SECONDS)
    assert not looked.is_set()


def test_a_look_that_takes_long_does_not_hold_up_a_stop() -> None:
    began, ends = Event(), Event()

    def look() -> None:
        began.set()
        ends.wait()

    repeating = Repeating("look", 0, look)
    assert began.wait(LIMIT_SECONDS)
    assert not repeating.close(0.01)
    ends.set()
    assert repeating.close(LIMIT_SECONDS)
