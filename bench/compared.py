"""What is compared: this project's ways to run, and the peers."""

from typing import NamedTuple

from code_lines import code_lines
from registry import HERE, PEERS

OURS = {  # the client, and whether a minute's users go in one record
    "kafka-python": ("kafka-python", False),
    "librdkafka": ("librdkafka", False),
    "librdkafka-combine": ("librdkafka", True),
}


class Compared(NamedTuple):
    """What is known of an engine without a run. This project's code is there already: none is to be written."""

    title: str
    lines: int
    durable: bool


def compared() -> dict[str, Compared]:
    """Every engine by its name."""
    ours = {
        name: Compared(f"this project, {client}{', `combine`' if combine else ''}", 0, durable=True)
        for name, (client, combine) in OURS.items()
    }
    peers = {
        name: Compared(peer.title, sum(code_lines(HERE / file) for file in peer.code), peer.durable)
        for name, peer in PEERS.items()
    }
    return {**ours, **peers}
