"""Addresses of brokers, and configurations for them."""

import socket
from typing import Any

import msgspec

from unique_users.config import Config


def config_for(broker: str, **overrides: Any) -> Config:
    """A Config for `broker`; each override is a section, `kafka` is added to the broker's address."""
    kafka = {"bootstrap_servers": [broker], **overrides.pop("kafka", {})}
    return msgspec.convert({"kafka": kafka, **overrides}, Config)


def free_port() -> int:
    """A port of the loopback address where nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
