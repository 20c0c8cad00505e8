"""What a file or a pipe holds under its layers of compression, each recognised by its first bytes."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from unique_users.errors import UsageError
from unique_users.producer.decompression import unpacked_bz2, unpacked_gzip, unpacked_xz, unpacked_zstd
from unique_users.producer.refusals import STARTS, InputName, refuse_binary
from unique_users.producer.source import Source
from unique_users.producer.zip_archives import unpacked_zip, unpacked_zip_of_pipe

LAYERS_MAX = 3  # a gzip file can be made to contain itself


class _Layer(NamedTuple):
    starts: tuple[bytes, ...]
    unpacked: Callable[[Any], Iterator[bytes]]
    tool: str  # that does the same


_SKIPPABLE = tuple(bytes((first,)) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))  # see decompression
_LAYERS = [
    _Layer((b"\x1f\x8b",), unpacked_gzip, "gzip -dc"),
    _Layer((b"\x28\xb5\x2f\xfd", *_SKIPPABLE), unpacked_zstd, "zstd -dc"),
    _Layer((b"BZh",), unpacked_bz2, "bzip2 -dc"),
    _Layer((b"\xfd7zXZ\0",), unpacked_xz, "xz -dc"),
]
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # with files, empty, and in several parts
_STARTS = (*(start for layer in _LAYERS for start in layer.starts), *_ZIP, *STARTS)


def unpacked(file: Any, origin: InputName) -> Iterator[bytes]:
    """The bytes in a file as they arrive, unpacked; `origin` learns of each layer.

    Raises UsageError if it is known to hold no frames, and the packages' own errors if it is damaged.
    """
    source = Source(file.read1)
    for _ in range(LAYERS_MAX):
        start = source.start(_is_enough)
        if start.startswith(_ZIP):
            seekable = origin.regular and not origin.tools
            source = Source.of(unpacked_zip(file, origin) if seekable else unpacked_zip_of_pipe(source, origin))
        elif layer := next((layer for layer in _LAYERS if start.startswith(layer.starts)), None):
            source = Source.of(layer.unpacked(source))
            origin.tools.append(layer.tool)
        else:
            refuse_binary(start, origin)
            yield from source.blocks()
            return
    message = f"{origin.path}: is compressed more than {LAYERS_MAX - 1} times: unpack it first"
    raise UsageError(message)


def _is_enough(start: bytes) -> bool:
    return not any(len(start) < len(known) and known.startswith(start) for known in _STARTS)
