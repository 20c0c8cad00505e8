"""This machine's clock against the brokers', without writing anything.

A broker writes its own time beside every offset commit of any group, and tells the time of the newest record of a
topic. If that changes while we look, the broker's clock showed it at a moment between two readings of ours.
"""

from collections.abc import Iterator

from unique_users.doctor.examination import Examination
from unique_users.doctor.finding import Finding, ok, unknown, warning, wrong
from unique_users.doctor.rights import groups_exist
from unique_users.errors import BrokerAwayError, BrokerError

NAME = "clock"
COMMITS = "__consumer_offsets"
WATCH_SECONDS, LOOK_SECONDS = 6.0, 0.5
APART_SECONDS, FAR_SECONDS = 5.0, 60.0
_DO = "set both by NTP: records carry their sender's time, which `future` and retention go by"


def look(examination: Examination) -> Iterator[Finding]:
    """Wait for a commit, and compare its time with ours."""
    clock = examination.clock
    if not groups_exist(examination):
        yield unknown(NAME, "nobody has committed anything yet")
        return
    try:
        asked = begun = clock.wall()
        newest = before = _newest(examination)
        seen = clock.wall()
        deadline = clock.monotonic() + WATCH_SECONDS
        while before is not None and newest == before and clock.monotonic() < deadline:
            clock.pause(LOOK_SECONDS)
            begun = asked  # what the look before this one did not show was committed after it was asked for
            asked = clock.wall()
            newest, seen = _newest(examination), clock.wall()
    except BrokerAwayError:
        raise
    except BrokerError:
        yield unknown(NAME, f"that needs the right Describe on {COMMITS}")
        return
    if before is None or newest is None:
        yield unknown(NAME, "the brokers do not tell the times of commits")
    elif newest != before:
        yield _compared(begun - newest, seen - newest)
    elif newest - seen > APART_SECONDS:
        yield _apart(seen - newest)
    else:
        yield unknown(NAME, f"no commit within {WATCH_SECONDS:g} s showed the brokers' time")


def _newest(examination: Examination) -> float | None:
    times = examination.admin.newest_ms(COMMITS)
    return max(times.values()) / 1000 if times else None


def _compared(least: float, most: float) -> Finding:
    """Our clock is ahead of the broker's by something between these two."""
    if least > APART_SECONDS or most < -APART_SECONDS:
        return _apart(least if least > 0 else most)
    return ok(NAME, f"at most {max(abs(least), abs(most)):.1f} s apart from the brokers'")


def _apart(ahead: float) -> Finding:
    says = f"this machine's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} the brokers'"
    return wrong(NAME, says, _DO) if abs(ahead) > FAR_SECONDS else warning(NAME, says, _DO)
