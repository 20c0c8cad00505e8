"""What a value of the configuration may be."""

from typing import Annotated

from msgspec import Meta

# No control characters, line breaks or lone surrogates: paths, brokers and logs cannot take them.
_PRINTABLE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
NAME, _TEXT, _TOPIC_NAME = rf"^{_PRINTABLE}+\Z", rf"^{_PRINTABLE}*\Z", r"^(?!\.{1,2}\Z)[a-zA-Z0-9._-]{1,249}\Z"
_TABLE = r"^([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,53}\Z"
_PREFIX = r"^([a-zA-Z0-9][a-zA-Z0-9._-]{0,99})?\Z"
TOPIC_NAME_MAX = 249
_PATH = r"^(/[a-zA-Z0-9._~-]+)*\Z"
# What errors say instead of a pattern.
PATTERNS = {
    _PATH: "an empty string, or a path like /unique-users without a slash at its end",
    NAME: "a string that is not empty and has no control characters",
    _TEXT: "a string without control characters",
    _PREFIX: "up to 100 letters, digits, `.`, `_` and `-`, beginning with a letter or a digit",
    _TABLE: "a name of up to 54 small letters, digits and `_`, or a schema, a dot and such a name",
    _TOPIC_NAME: "1 to 249 letters, digits and the signs `.`, `_` and `-`, but not `.` or `..`",
}
_FLOAT_MAX = 1.7e308  # anything above is infinity or not a number

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]  # a year
LongSeconds = Annotated[int, Meta(ge=0, le=100_000_000_000)]
Days = Annotated[int, Meta(ge=0, le=1_000_000)]
PositiveInt = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
Partitions = Annotated[int, Meta(ge=1, le=100_000)]
NAME_LENGTH_MAX = 4_000
Name = Annotated[str, Meta(pattern=NAME, max_length=NAME_LENGTH_MAX)]
# Each is a Name. This is checked elsewhere: msgspec 0.22 corrupts memory if a union holds a pattern and a list.
Fields = str | list[str]
TopicName = Annotated[str, Meta(pattern=_TOPIC_NAME)]
Text = Annotated[str, Meta(pattern=_TEXT, max_length=NAME_LENGTH_MAX)]
NamePrefix = Annotated[str, Meta(pattern=_PREFIX)]
UrlPath = Annotated[str, Meta(pattern=_PATH)]
TableName = Annotated[str, Meta(pattern=_TABLE)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Scalar = (
    Annotated[str, Meta(pattern=_TEXT, max_length=32_000)]
    | int
    | Annotated[float, Meta(ge=-_FLOAT_MAX, le=_FLOAT_MAX)]
    | bool
)
