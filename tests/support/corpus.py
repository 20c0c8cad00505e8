"""Frames that are none, each with its reason; and what random damage makes of real ones."""

from collections.abc import Sequence
from random import Random

_TS = b"1704116384"


def wrong_frames() -> list[tuple[bytes, str | None]]:
    """Hand-made frames and why they are rejected; None: they are frames after all."""
    deep = 100_000
    return [
        (b"", "not_json"),
        (b" ", "not_json"),
        (b"\0" * 2_000, "not_json"),
        (b"\xff\xfe" + '{"uid":"u","ts":1704116384}'.encode("utf-16-le"), "not_json"),
        (b'{"uid":"u","ts":1704116384', "not_json"),
        (b'{"uid":"u","ts":1468', "not_json"),
        (b'{"uid":"u","ts":1704116384}}', "not_json"),
        (b'{"uid":"u","ts":1704116384}{"uid":"v","ts":1704116384', "not_json"),
        (b'{"uid":"u","ts":1704116384,}', "not_json"),
        (b"{'uid':'u','ts':1704116384}", "not_json"),
        (b'{"uid":"u\xff","ts":1704116384}', "not_json"),
        (b'{"uid":"\xc0\xaf","ts":1704116384}', "not_json"),
        (b'{"uid":"\xed\xa0\x80","ts":1704116384}', "not_json"),
        (b'{"uid":"a\nb","ts":1704116384}', "not_json"),
        (b'{"uid":"u","ts":NaN}', "not_json"),
        (b'{"uid":"u","ts":Infinity}', "not_json"),
        (b'{"uid":"u","ts":01704116384}', "not_json"),
        (b'{"uid":"u","ts":+1704116384}', "not_json"),
        (b'{"uid":"u","ts":0x6592C220}', "not_json"),
        (b"[" * deep, "not_json"),
        (b"[" * deep + b"]" * deep, "not_json"),
        (b'{"uid":"u","ts":1704116384,"a":' + b"[" * deep + b"]" * deep + b"}", "not_json"),
        (b'{"a":' * deep + b"1" + b"}" * deep, "not_json"),
        (b"null", "not_an_object"),
        (b"17", "not_an_object"),
        (b'"uid"', "not_an_object"),
        (b"[]", "not_an_object"),
        (b"{}", "no_uid"),
        (b'{"ts":1704116384}', "no_uid"),
        (b'{"UID":"u","ts":1704116384}', "no_uid"),
        (b'{"user":{"uid":"u"},"ts":1704116384}', "no_uid"),
        (b'{"uid":null,"ts":1704116384}', "bad_uid"),
        (b'{"uid":"","ts":1704116384}', "bad_uid"),
        (b'{"uid":17.0,"ts":1704116384}', "bad_uid"),
        (b'{"uid":["u"],"ts":1704116384}', "bad_uid"),
        (b'{"uid":"u","uid":null,"ts":1704116384}', "bad_uid"),
        (b'{"uid":"' + b"u" * 257 + b'","ts":1704116384}', "bad_uid"),
        (b'{"uid":"' + "ü".encode() * 129 + b'","ts":1704116384}', "bad_uid"),
        (b'{"uid":"\\ud800","ts":1704116384}', "not_json"),
        (b'{"uid":"u"}', "no_ts"),
        (b'{"uid":"u","at":{"ts":1704116384}}', "no_ts"),
        (b'{"uid":"u","ts":null}', "bad_ts"),
        (b'{"uid":"u","ts":true}', "bad_ts"),
        (b'{"uid":"u","ts":"NaN"}', "bad_ts"),
        (b'{"uid":"u","ts":""}', "bad_ts"),
        (b'{"uid":"u","ts":"yesterday"}', "bad_ts"),
        (b'{"uid":"u","ts":"2024-01-01T13:39:44"}', "bad_ts"),
        (b'{"uid":"u","ts":"2016-02-30T13:39:44Z"}', "bad_ts"),
        (b'{"uid":"u","ts":-1}', "bad_ts"),
        (b'{"uid":"u","ts":1e300}', "bad_ts"),
        (b'{"uid":"u","ts":99999999999999999999999}', "bad_ts"),
        (b'{"uid":"u","ts":[1704116384]}', "bad_ts"),
        (b'{"uid":"u","ts":1704116384,"ts":null}', "bad_ts"),
        (b'{"uid":"u","ts":10413792000}', "future"),
        (b'{"uid":"u","ts":1704116384,"a":"' + b"x" * 2_000_000 + b'"}', "too_large"),
        (b"x" * 2_000_000, "too_large"),
        (b'{"uid":"twice","uid":"last","ts":' + _TS + b"}", None),
        (b'{"uid":null,"ts":null,"uid":"nulls first","ts":' + _TS + b"}", None),
        (b'{"a":{"uid":"decoy","ts":1},"uid":"not the decoy","ts":' + _TS + b',"b":[{"uid":1,"ts":"x"}]}', None),
        (b'{"\\u0075id":"escaped key","ts":' + _TS + b"}", None),
        (b"\xef\xbb\xbf" + b'{"uid":"byte order mark","ts":1704116384}', None),
        (b'{"uid":17,"ts":1704116384}', None),
        (b'[{"uid":"in an array","ts":1704116384}]', None),
        (b'{"uid":"half an emoji elsewhere","ts":1704116384,"a":"\\ud83d"}', None),
        (b'{"uid":"ts as text","ts":"1704116384"}', None),
        (b'{"uid":"ts as float","ts":1704116384.75}', None),
        (b'{"uid":"ts in ISO","ts":"2024-01-01T13:39:44Z"}', None),
        (b'{"uid":"ts in ISO with an offset","ts":"2024-01-01T15:39:44+02:00"}', None),
        (b' \t\r\n{ "uid" : "white space" , "ts" : 1704116384 }\n', None),
        (b'{"uid":"a\\u0000b","ts":' + _TS + b"}", None),
        (b'{"uid":"' + "ü".encode() * 128 + b'","ts":' + _TS + b"}", None),
        (b'{"uid":"' + b"u" * 256 + b'","ts":' + _TS + b"}", None),
    ]


def fuzzed(good: Sequence[bytes], count: int, random: Random) -> list[bytes]:
    """Real frames with bits flipped, cut, doubled, spliced."""
    return [_damaged(bytearray(random.choice(good)), random, good) for _ in range(count)]


def _damaged(frame: bytearray, random: Random, good: Sequence[bytes]) -> bytes:
    at = random.randrange(len(frame))
    match random.randrange(7):
        case 0 | 1 | 2:
            for _ in range(random.choice((1, 1, 1, 2, 10))):
                frame[random.randrange(len(frame))] ^= 1 << random.randrange(8)
        case 3:
            del frame[at:]
        case 4:
            del frame[at : at + random.randrange(1, 50)]
        case 5:
            frame[at:at] = frame[: random.randrange(1, 50)]
        case _:
            other = random.choice(good)
            frame[at:] = other[random.randrange(len(other)) :]
    return bytes(frame)
