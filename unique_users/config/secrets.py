"""Keeps the values of the `kafka:` section out of clients' messages: some are secrets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_HIDDEN = "***"
_LONG = 4  # characters; a shorter value is only masked as a whole word, because it may occur inside other words
# Well-known names that brokers and clients use in their answers.
_PUBLIC = {
    *("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    *("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER", "AWS_MSK_IAM"),
}


def without_values(text: str, kafka: Mapping[str, Any]) -> str:
    """A client's message on one line, with `***` for each value of the section except the brokers' addresses."""
    # Long values first: a short one may be part of them.
    for value in sorted({value for name in kafka for value in _values(name, kafka[name])}, key=len, reverse=True):
        pattern = re.escape(value)
        text = re.sub(pattern if len(value) >= _LONG else rf"(?<![\w.]){pattern}(?![\w.])", _HIDDEN, text)
    return " ".join(text.split())


def _values(name: str, value: Any) -> Iterator[str]:
    if name == "bootstrap_servers" or value is None or isinstance(value, bool):
        return
    if isinstance(value, list | dict):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _values("", part)
        return
    text = str(value)
    # Clients quote parts of lists, and values with their ends stripped.
    parts = {text, text.strip(), *re.split(r"[,;=\s]+", text)}
    parts |= {repr(part)[1:-1] for part in parts}
    yield from (part for part in parts if part and part.upper() not in _PUBLIC)
