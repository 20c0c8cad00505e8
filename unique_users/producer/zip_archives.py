"""The only file in a zip archive: the directory at the archive's end says what it holds before anything is read."""

import struct
import tempfile
import zipfile
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Iterator
from typing import IO

from unique_users.errors import InputError
from unique_users.producer.decompression import COMPRESSED_BYTES, unpacked_member, unpacked_stream
from unique_users.producer.refusals import InputName
from unique_users.producer.source import Source

_HEADER = struct.Struct("<4sHHHHHIIIHH")  # of a file, before its name: see APPNOTE.TXT, 4.3.7
_HEADER_START = b"PK\x03\x04"
_ENCRYPTED = 1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}
_LEFT_BY_SYSTEMS = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")


def unpacked_zip_of_pipe(source: Source, origin: InputName) -> Iterator[bytes]:
    """Like `unpacked_zip`, after copying what is left of a source to a temporary file.

    Raises InputError if there is no room for it.
    """
    with tempfile.TemporaryFile() as file:
        for block in source.blocks():
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                message = (
                    f"{origin.path}: a zip archive from a pipe is first copied to {tempfile.gettempdir()},"
                    f" and that failed: {error.strerror}: name the archive itself, or set TMPDIR"
                )
                raise InputError(message) from None
        yield from unpacked_zip(file, origin)


def unpacked_zip(file: IO[bytes], origin: InputName) -> Iterator[bytes]:
    """The content of the only file in an archive, up to any damage; `origin` learns of this layer.

    Raises UsageError unless it holds exactly one file that can be read here. Raises zlib.error or OSError if it is
    damaged, and EOFError if it is truncated. Then the directory is missing, and the first file is read as far as it
    goes.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            member = _only(archive.infolist(), origin)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        member = None
    file.seek(0 if member is None else member.header_offset)
    start, _, flags, method, _, _, _, size, _, *rest = _HEADER.unpack(
        file.read(_HEADER.size).ljust(_HEADER.size, b"\0")
    )
    if start != _HEADER_START:
        raise EOFError("the zip archive is damaged")
    file.seek(sum(rest), 1)
    if member is not None:
        flags, method, size = member.flag_bits, member.compress_type, member.compress_size
    _check(flags, method, origin)
    origin.tools.append("unzip -p")
    crc = 0
    for plain in _content(file, method, size):
        crc = zlib.crc32(plain, crc)
        yield plain
    if member is None:
        raise EOFError("the end of the zip archive is missing")
    if crc != member.CRC:
        raise zlib.error("the checksum of the file in the zip archive differs")


def _only(members: list[zipfile.ZipInfo], origin: InputName) -> zipfile.ZipInfo:
    files = [
        member
        for member in members
        if not member.is_dir() and not member.filename.startswith(_LEFT_BY_SYSTEMS[0]) and _is_meant(member.filename)
    ]
    if len(files) != 1:
        raise _refused(f"is a zip archive of {len(files):,} files, and only one can be read", "unzip -p", origin)
    return files[0]


def _is_meant(name: str) -> bool:
    return name.rpartition("/")[2] not in _LEFT_BY_SYSTEMS


def _check(flags: int, method: int, origin: InputName) -> None:
    if flags & _ENCRYPTED:
        raise _refused("is an encrypted zip archive", "unzip -P PASSWORD -p", origin)
    if method not in _METHODS:
        raise _refused(f"is a zip archive packed with method {method}, which cannot be read here", "7z x -so", origin)


def _refused(what: str, command: str, origin: InputName) -> Exception:
    return origin.refused_file(what, f"{command} {{file}}")


def _content(file: IO[bytes], method: int, size: int) -> Iterator[bytes]:
    if method == zipfile.ZIP_DEFLATED:
        yield from unpacked_member(file, wbits=-zlib.MAX_WBITS)
    elif method == zipfile.ZIP_BZIP2:
        yield from unpacked_stream(file, BZ2Decompressor())
    else:
        while size:
            if not (read := file.read(min(size, COMPRESSED_BYTES))):
                raise EOFError("the end of the zip archive is missing")
            size -= len(read)
            yield read
