"""Run a script of the product with a fault inside: python sabotaged.py FAULT VALUE SCRIPT ARGUMENTS…

slow SECONDS     every now and then handling a batch takes so long
file_bytes MAX   no file can grow beyond so many bytes, as on a full disk
uneven N         the producer gives partition 0 of the N of its topic next to nothing
"""

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from itertools import count
from random import Random
from typing import Any

import repository  # noqa: F401 - finds the product
from uneven import unevenly

from unique_users.bucketer.rekey import Rekeyer
from unique_users.clients.sending import Sending
from unique_users.counter.partition import CountedPartition
from unique_users.errors import BrokerError
from unique_users.runtime.process import run_script

SLOW_SHARE = 0.2
LOOK_SECONDS = 1.0


def slow_down(seconds: float) -> None:
    """Make one batch in five, the first one among them, take `seconds`, before or after the work is done."""
    draw = Random(seconds).random
    first = iter([0.0])

    def wrapped(method: Any) -> Any:
        def slow(*arguments: Any) -> Any:
            share = next(first, None)
            if share is None:
                share = draw()
            if share < SLOW_SHARE / 2:
                print("sabotaged: slow before", file=sys.stderr, flush=True)
                time.sleep(seconds)
            result = method(*arguments)
            if share > 1 - SLOW_SHARE / 2:
                print("sabotaged: slow after", file=sys.stderr, flush=True)
                time.sleep(seconds)
            return result

        return slow

    Rekeyer.rekey = wrapped(Rekeyer.rekey)  # type: ignore[method-assign]
    CountedPartition.add = wrapped(CountedPartition.add)  # type: ignore[method-assign]


def send_unevenly(known: int) -> None:
    """Have the producer's calls take partitions 1 and up in turn, and partition 0 now and then."""
    send_all = Sending.send_all
    turns = count(1)
    there, looked_at = known, time.monotonic()

    def uneven(sending: Sending, topic: str, values: Sequence[bytes], *_: object) -> None:
        nonlocal there, looked_at
        if time.monotonic() - looked_at > LOOK_SECONDS:  # there may be more by now
            with suppress(BrokerError):
                there = sending.partitions(topic)
            looked_at = time.monotonic()
        partition = unevenly(next(turns), there)
        send_all(sending, topic, values, [None] * len(values), [partition] * len(values))

    Sending.send_all = uneven  # type: ignore[method-assign,assignment]


def main() -> None:
    fault, value, script, *arguments = sys.argv[1:]
    if fault == "slow":
        slow_down(float(value))
    elif fault == "uneven":
        send_unevenly(int(value))
    elif fault == "file_bytes":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), resource.RLIM_INFINITY))
    else:
        raise SystemExit(f"no such fault: {fault}")
    sys.argv = [script, *arguments]
    run_script(import_module(f"unique_users.commands.{script}").main)


if __name__ == "__main__":
    main()
