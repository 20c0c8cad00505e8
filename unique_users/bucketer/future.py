"""For a frame that is too far ahead of its record: says what the record's own time looks like. Pure."""

from unique_users.event_time.buckets import iso_time

# The years 1973 to 2286 in seconds; read as milliseconds, all fall within four months of 1970.
_SECONDS = range(100_000_000, 10_000_000_000)
_SETTING = "more than bucketer.future_seconds_max"


def ahead(ts: int, timestamp_ms: int) -> str:
    """The detail for a frame with the time `ts` in a record with this Kafka time."""
    text = f"{ts - timestamp_ms // 1000} s ahead of its record, {_SETTING}"
    if timestamp_ms == 0:
        return f"{text}: the record's time is 0, so its producer sets none"
    if timestamp_ms in _SECONDS:
        return f"{text}: the record's time {timestamp_ms} looks like seconds, but Kafka's are in milliseconds"
    return f"{text}: the record's time is {iso_time(timestamp_ms // 1000)}"
