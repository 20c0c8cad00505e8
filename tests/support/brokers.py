"""Addresses of brokers, and configurations for them."""

from typing import Any

import msgspec

from unique_users.config.schema import Config


def config_for(broker: str, **overrides: Any) -> Config:
    """A Config for `broker`; each override is a section, `kafka` is added to the broker's address."""
    kafka = {"bootstrap_servers": [broker], **overrides.pop("kafka", {})}
    return msgspec.convert({"kafka": kafka, **overrides}, Config)
