"""Runs the checks, each with a limit of its own: whatever stands still, the examination goes on and ends."""

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from unique_users.config.secrets import without_values
from unique_users.doctor.examination import CONNECTION, Examination
from unique_users.doctor.finding import Finding, from_error, skipped, wrong
from unique_users.errors import BrokerAwayError, UniqueUsersError

CLOSE_SECONDS = 2.0
_LOOK = "it stopped answering: run the doctor again, and if it stops again, look at the broker and the network"


class Check(NamedTuple):
    """One thing to look at. It is left out if something that it needs was not provided by an earlier one."""

    name: str
    look: Callable[[Examination], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    seconds: float = 20.0


def examined(checks: Sequence[Check], examination: Examination) -> Iterator[Finding]:
    """Run the checks in order, and yield what they find as they find it."""
    for check in checks:
        missing = next((need for need in check.needs if need not in examination.provided), None)
        if missing:
            yield skipped(check.name, f"it needs {missing}")
        else:
            yield from _within_limit(check, examination)
    closing = Thread(target=examination.close, name="close the doctor's connection", daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)


def _within_limit(check: Check, examination: Examination) -> Iterator[Finding]:
    found: SimpleQueue[Finding | None] = SimpleQueue()

    def look() -> None:
        try:
            for finding in check.look(examination):
                found.put(finding)
        except BrokerAwayError as error:
            examination.provided.discard(CONNECTION)
            found.put(from_error(check.name, error, _LOOK))
        except UniqueUsersError as error:
            found.put(from_error(check.name, error))
        except Exception as error:  # noqa: BLE001 - one broken check must not hide what the others find
            said = without_values(f"{type(error).__name__}: {error}", examination.config.kafka)
            found.put(wrong(check.name, f"this check itself failed: {said}", "report it, with this message"))
        finally:
            found.put(None)

    thread = Thread(target=look, name=f"look at {check.name}", daemon=True)
    thread.start()
    clock = examination.clock
    deadline = clock.monotonic() + check.seconds
    while True:
        try:
            finding = found.get(timeout=max(0.0, deadline - clock.monotonic()))
        except Empty:
            examination.provided.discard(CONNECTION)  # whoever it waits for would let the others wait too
            yield wrong(check.name, f"no answer within {check.seconds:g} s", _LOOK)
            return
        if finding is None:
            return
        yield finding
