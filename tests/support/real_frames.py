"""Frames in the shapes that real sources have, made up here: the format to set, the message, and what it holds."""

import json
from datetime import date
from typing import Any, NamedTuple

from unique_users.messages.frame import FrameFormat, Reason

T = 1_716_200_040  # 2024-05-20T10:14:00Z
T_MIN = date(2000, 1, 1)


class RealFrame(NamedTuple):
    """What comes, and what is to be made of it, in order: users with their times, or reasons."""

    source: str
    form: FrameFormat
    message: bytes
    expected: tuple[tuple[str, int] | Reason, ...]


def _case(source: str, form: dict[str, Any], message: object, *expected: tuple[str, int] | Reason) -> RealFrame:
    raw = message if isinstance(message, bytes) else json.dumps(message).encode()
    return RealFrame(source, FrameFormat(**{"ts_min": T_MIN, **form}), raw, expected)


def _lines(*values: object) -> bytes:
    return b"\n".join(json.dumps(value).encode() for value in values)


_SEGMENT: dict[str, Any] = {"uid": ["userId", "anonymousId"], "ts": "timestamp"}
_AMPLITUDE: dict[str, Any] = {"uid": ["user_id", "device_id"], "ts": "event_time", "timezone": "UTC"}
_CONNECT: dict[str, Any] = {"uid": "payload.user", "ts": "payload.at", "ts_unit": "ms"}
_DEBEZIUM: dict[str, Any] = {"uid": "payload.after.user_id", "ts": "payload.ts_ms", "ts_unit": "ms"}
_MONGO: dict[str, Any] = {"uid": "user_id.$oid", "ts": "at.$date"}
_BERLIN: dict[str, Any] = {"timezone": "Europe/Berlin"}

REAL_FRAMES = [
    # Event platforms
    _case("GH Archive", {"uid": "actor.login", "ts": "created_at"}, {"id": "3", "actor": {"id": 7, "login": "dev0"}, "created_at": "2024-05-20T10:14:00Z"}, ("dev0", T)),
    _case("GH Archive, by number", {"uid": "actor.id", "ts": "created_at"}, {"actor": {"id": 700, "login": "dev0"}, "created_at": "2024-05-20T10:14:59Z"}, ("700", T + 59)),
    _case("GH Archive, no actor", {"uid": "actor.login", "ts": "created_at"}, {"actor": None, "created_at": "2024-05-20T10:14:00Z"}, Reason.NO_UID),
    _case("Segment, known", _SEGMENT, {"userId": "u1", "anonymousId": "a1", "timestamp": "2024-05-20T10:14:00.123Z"}, ("u1", T)),
    _case("Segment, anonymous", _SEGMENT, {"userId": None, "anonymousId": "a1", "timestamp": "2024-05-20T10:14:00.123Z"}, ("a1", T)),
    _case("Segment, empty user", _SEGMENT, {"userId": "", "anonymousId": "a1", "timestamp": "2024-05-20T10:14:00.123Z"}, ("a1", T)),
    _case("Segment, numeric user", _SEGMENT, {"userId": 8993819, "anonymousId": "a1", "timestamp": "2024-05-20T10:14:00.123Z"}, ("8993819", T)),
    _case("Segment, user 0", _SEGMENT, {"userId": 0, "anonymousId": "a1", "timestamp": "2024-05-20T10:14:00Z"}, ("0", T)),
    _case("Segment, no id at all", _SEGMENT, {"timestamp": "2024-05-20T10:14:00Z"}, Reason.NO_UID),
    _case("Segment, both empty", _SEGMENT, {"userId": "", "anonymousId": None, "timestamp": "2024-05-20T10:14:00Z"}, Reason.BAD_UID),
    _case("Segment, user an object", _SEGMENT, {"userId": {"id": 1}, "anonymousId": "a1", "timestamp": "2024-05-20T10:14:00Z"}, Reason.BAD_UID),
    _case("RudderStack batch", _SEGMENT, [{"userId": "u1", "timestamp": "2024-05-20T10:14:00Z"}, {"anonymousId": "a", "timestamp": "2024-05-20T10:15:00+00:00"}], ("u1", T), ("a", T + 60)),
    _case("Amplitude export", _AMPLITUDE, {"user_id": "a0", "device_id": "d0", "event_time": "2024-05-20 10:14:00.000000"}, ("a0", T)),
    _case("Amplitude, device", _AMPLITUDE, {"user_id": None, "device_id": "d0", "event_time": "2024-05-20 10:14:00.999999"}, ("d0", T)),
    _case("Amplitude, no zone set", {**_AMPLITUDE, "timezone": None}, {"user_id": "a0", "event_time": "2024-05-20 10:14:00.000000"}, Reason.BAD_TS),
    _case("Mixpanel", {"uid": "properties.distinct_id", "ts": "properties.time"}, {"event": "x", "properties": {"distinct_id": "m1", "time": T}}, ("m1", T)),
    _case("Mixpanel, newer in ms", {"uid": "properties.distinct_id", "ts": "properties.time", "ts_unit": "ms"}, {"properties": {"time": T * 1000 + 7, "distinct_id": "m1"}}, ("m1", T)),
    _case("Mixpanel, $device", {"uid": ["properties.$user_id", "properties.$device_id"], "ts": "properties.time"}, {"properties": {"$device_id": "d", "time": T}}, ("d", T)),
    _case("PostHog", {"uid": "distinct_id", "ts": "timestamp"}, {"distinct_id": "018f-ab", "timestamp": "2024-05-20T10:14:00.123000+00:00"}, ("018f-ab", T)),
    _case("GA4 export", {"uid": ["user_id", "user_pseudo_id"], "ts": "event_timestamp", "ts_unit": "us"}, {"event_timestamp": T * 1_000_000 + 5, "user_pseudo_id": "1.2", "user_id": None}, ("1.2", T)),
    _case("GA4 export, times as strings", {"uid": "user_pseudo_id", "ts": "event_timestamp", "ts_unit": "us"}, {"event_timestamp": str(T * 1_000_000), "user_pseudo_id": "1.2"}, ("1.2", T)),
    _case("Snowplow", {"uid": "domain_userid", "ts": "collector_tstamp"}, {"domain_userid": "s-1", "collector_tstamp": "2024-05-20 10:14:00.123 UTC"}, ("s-1", T)),
    _case("Matomo", {"uid": "visitorId", "ts": "serverTimestamp"}, {"visitorId": "a1b2", "serverTimestamp": T, "actionDetails": [{"timestamp": 5}]}, ("a1b2", T)),
    _case("Heap", {"uid": "user_id", "ts": "time"}, {"user_id": 2**53 + 1, "time": "2024-05-20T10:14:00Z"}, ("9007199254740993", T)),
    _case("AppsFlyer", {"uid": "appsflyer_id", "ts": "event_time", "timezone": "UTC"}, {"appsflyer_id": "171-9", "event_time": "2024-05-20 10:14:00.123"}, ("171-9", T)),
    _case("Braze Currents", {"uid": "user_id", "ts": "time"}, {"user_id": "b", "time": T}, ("b", T)),
    _case("Intercom", {"uid": "data.item.user.id", "ts": "created_at"}, {"created_at": T, "data": {"item": {"user": {"id": "i9"}}}}, ("i9", T)),
    # Change data capture and connectors
    _case("Connect, JsonConverter", _CONNECT, {"schema": {"type": "struct"}, "payload": {"user": "c1", "at": T * 1000}}, ("c1", T)),
    _case("Connect, null payload", _CONNECT, {"schema": None, "payload": None}, Reason.NO_UID),
    _case("Connect, two fields of one object", {"uid": "payload.u", "ts": "payload.t"}, {"payload": {"t": T, "x": {"u": "decoy"}, "u": "p"}}, ("p", T)),
    _case("Debezium, insert", _DEBEZIUM, {"payload": {"before": None, "after": {"user_id": 42}, "ts_ms": T * 1000}}, ("42", T)),
    _case("Debezium, delete", _DEBEZIUM, {"payload": {"before": {"user_id": 42}, "after": None, "ts_ms": T * 1000}}, Reason.NO_UID),
    _case("Debezium, before or after", {**_DEBEZIUM, "uid": ["payload.after.user_id", "payload.before.user_id"]}, {"payload": {"before": {"user_id": 42}, "after": None, "ts_ms": T * 1000}}, ("42", T)),
    _case("Debezium, flattened", {"uid": "after.id", "ts": "ts_ms", "ts_unit": "ms"}, {"after": {"id": 1}, "ts_ms": T * 1000 + 999}, ("1", T)),
    _case("Debezium, MicroTimestamp", {"uid": "id", "ts": "created", "ts_unit": "us"}, {"id": 1, "created": T * 1_000_000}, ("1", T)),
    _case("Debezium, NanoTimestamp", {"uid": "id", "ts": "created", "ts_unit": "ns"}, {"id": 1, "created": T * 1_000_000_000 + 999_999_999}, ("1", T)),
    _case("Maxwell", {"uid": "data.id", "ts": "ts"}, {"database": "d", "type": "insert", "ts": T, "data": {"id": 7}}, ("7", T)),
    _case("Schema Registry JSON", {"registry_framing": "json"}, b"\0\0\0\0\7" + _lines({"uid": "r", "ts": T}), ("r", T)),
    _case("Schema Registry JSON, one without", {"registry_framing": "json"}, {"uid": "r", "ts": T}, ("r", T)),
    _case("Schema Registry JSON, not set", {}, b"\0\0\0\0\7" + _lines({"uid": "r", "ts": T}), Reason.NOT_JSON),
    _case("MongoDB export", _MONGO, {"user_id": {"$oid": "507f191e810c19729de860ea"}, "at": {"$date": "2024-05-20T10:14:00Z"}}, ("507f191e810c19729de860ea", T)),
    _case("MongoDB export, canonical", {"uid": "_id.$oid", "ts": "at.$date.$numberLong", "ts_unit": "ms"}, {"_id": {"$oid": "50"}, "at": {"$date": {"$numberLong": str(T * 1000)}}}, ("50", T)),
    _case("MongoDB export, not set", {"uid": "user_id", "ts": "at"}, {"user_id": {"$oid": "50"}, "at": {"$date": "2024-05-20T10:14:00Z"}}, Reason.BAD_UID),
    _case("Elasticsearch hit", {"uid": "_source.user", "ts": "_source.@timestamp"}, {"_index": "i", "_source": {"user": "e", "@timestamp": "2024-05-20T10:14:00.000Z"}}, ("e", T)),
    _case("ECS, nested", {"uid": "user.id", "ts": "@timestamp"}, {"@timestamp": "2024-05-20T10:14:00.000Z", "user": {"id": "e", "name": "n"}}, ("e", T)),
    _case("ECS, dotted", {"uid": "user.id", "ts": "@timestamp"}, {"@timestamp": "2024-05-20T10:14:00.000Z", "user.id": "e"}, ("e", T)),
    _case("ECS, dotted and nested", {"uid": "user.id", "ts": "@timestamp"}, {"user": {"id": "path"}, "user.id": "root", "@timestamp": "2024-05-20T10:14:00Z"}, ("root", T)),
    _case("half dotted", {"uid": "a.b.c", "ts": "ts"}, {"a.b": {"c": "x"}, "ts": T}, Reason.NO_UID),
    _case("three levels", {"uid": "a.b.c", "ts": "ts"}, {"a": {"b": {"c": "x"}}, "ts": T}, ("x", T)),
    _case("a path through a list", {"uid": "a.b", "ts": "ts"}, {"a": [{"b": "x"}], "ts": T}, Reason.NO_UID),
    _case("a path through a string", {"uid": "a.b", "ts": "ts"}, {"a": "b", "ts": T}, Reason.NO_UID),
    # Logs
    _case("Docker json-file", {"uid": "attrs.user", "ts": "time"}, {"log": "x\n", "attrs": {"user": "d"}, "time": "2024-05-20T10:14:01.123456789Z"}, ("d", T + 1)),
    _case("nginx", {"uid": "remote_user", "ts": "msec"}, {"msec": "1716200040.123", "remote_user": "n"}, ("n", T)),
    _case("Caddy", {"uid": "request.remote_ip", "ts": "ts"}, {"ts": 1716200040.9996119, "request": {"remote_ip": "192.0.2.1"}}, ("192.0.2.1", T)),
    _case("zap, ns as float", {"uid": "user", "ts": "ts", "ts_unit": "ns"}, {"ts": 1.71620004e18, "user": "z"}, ("z", T)),
    _case("Traefik", {"uid": "ClientUsername", "ts": "StartUTC"}, {"StartUTC": "2024-05-20T10:14:00.999999999Z", "ClientUsername": "t"}, ("t", T)),
    _case("CloudTrail record", {"uid": "userIdentity.arn", "ts": "eventTime"}, {"userIdentity": {"arn": "arn:aws:iam::0:user/x"}, "eventTime": "2024-05-20T10:14:00Z"}, ("arn:aws:iam::0:user/x", T)),
    _case("CloudTrail file in one message", {"uid": "userIdentity.arn", "ts": "eventTime"}, {"Records": [{"eventTime": "2024-05-20T10:14:00Z"}]}, Reason.NO_UID),
    _case("Azure activity log", {"uid": "caller", "ts": "time"}, {"time": "2024-05-20T10:14:00.1234567Z", "caller": "a@example.org"}, ("a@example.org", T)),
    _case("GCP audit log", {"uid": "protoPayload.authenticationInfo.principalEmail", "ts": "timestamp"}, {"timestamp": "2024-05-20T10:14:00.123456Z", "protoPayload": {"authenticationInfo": {"principalEmail": "g"}}}, ("g", T)),
    _case("OpenTelemetry", {"uid": "user", "ts": "timeUnixNano", "ts_unit": "ns"}, {"timeUnixNano": str(T * 10**9 + 999_999_999), "user": "o"}, ("o", T)),
    _case("Okta", {"uid": "actor.id", "ts": "published"}, {"actor": {"id": "00u", "type": "User"}, "published": "2024-05-20T10:14:00.123Z"}, ("00u", T)),
    _case("Auth0", {"uid": "data.user_id", "ts": "data.date"}, {"data": {"date": "2024-05-20T10:14:00.123Z", "user_id": "auth0|1"}}, ("auth0|1", T)),
    _case("journald", {"uid": "_UID", "ts": "__REALTIME_TIMESTAMP", "ts_unit": "us"}, {"_UID": "1000", "__REALTIME_TIMESTAMP": str(T * 10**6)}, ("1000", T)),
    _case("Python logging, comma", {"uid": "user", "ts": "asctime", "timezone": "UTC"}, {"asctime": "2024-05-20 10:14:00,123", "user": "p"}, ("p", T)),
    _case("Java ZonedDateTime", {"uid": "user", "ts": "at"}, {"at": "2024-05-20T12:14:00+02:00[Europe/Berlin]", "user": "j"}, ("j", T)),
    _case("Java Instant as list", {"uid": "user", "ts": "at"}, {"at": [T, 123], "user": "j"}, Reason.BAD_TS),
    _case("Go time.String", {"uid": "user", "ts": "at"}, {"at": "2024-05-20 10:14:00.123456789 +0000 UTC", "user": "g"}, ("g", T)),
    _case("Ruby Time#to_s", {"uid": "user", "ts": "at"}, {"at": "2024-05-20 12:14:00 +0200", "user": "r"}, ("r", T)),
    _case("PostgreSQL timestamptz", {"uid": "user", "ts": "at"}, {"at": "2024-05-20 10:14:00.5+00", "user": "p"}, ("p", T)),
    _case("BigQuery", {"uid": "user", "ts": "at"}, {"at": "2024-05-20 10:14:00 UTC", "user": "b"}, ("b", T)),
    _case("strftime %z", {"uid": "user", "ts": "at"}, {"at": "2024-05-20T10:14:00+0000", "user": "s"}, ("s", T)),
    _case("leap second", {}, {"uid": "u", "ts": "2016-12-31T23:59:60Z"}, ("u", 1_483_228_799)),
    _case("second 61", {}, {"uid": "u", "ts": "2016-12-31T23:59:61Z"}, Reason.BAD_TS),
    _case("hour 24", {}, {"uid": "u", "ts": "2024-05-20T24:00:00Z"}, Reason.BAD_TS),
    _case("Berlin in summer", _BERLIN, {"uid": "u", "ts": "2024-05-20T12:14:00"}, ("u", T)),
    _case("Berlin, a zone of its own", _BERLIN, {"uid": "u", "ts": "2024-05-20T10:14:00Z"}, ("u", T)),
    _case("Berlin, the hour that comes twice", _BERLIN, {"uid": "u", "ts": "2024-10-27T02:30:00"}, ("u", 1_729_989_000)),
    _case("Berlin, the hour that is skipped", _BERLIN, {"uid": "u", "ts": "2024-03-31T02:30:00"}, ("u", 1_711_848_600)),
    _case("old Twitter", {"uid": "user.id_str", "ts": "created_at"}, {"created_at": "Mon May 20 10:14:00 +0000 2024", "user": {"id_str": "1"}}, Reason.BAD_TS),
    _case("old Twitter, timestamp_ms", {"uid": "user.id_str", "ts": "timestamp_ms", "ts_unit": "ms"}, {"timestamp_ms": str(T * 1000 + 657), "user": {"id_str": "1"}, "text": "cut \ud83d"}, ("1", T)),
    _case("Reddit", {"uid": "author", "ts": "created_utc"}, {"author": "r", "created_utc": 1716200040.0}, ("r", T)),
    _case("Hacker News", {"uid": "by", "ts": "time"}, {"by": "h", "time": T, "kids": [1, 2]}, ("h", T)),
    _case("Wikimedia", {"uid": "user", "ts": "timestamp"}, {"user": "Ü \u2028", "timestamp": T, "meta": {"dt": "x"}}, ("Ü \u2028", T)),
    _case("CloudEvents", {"uid": "data.userId", "ts": "time"}, {"specversion": "1.0", "time": "2024-05-20T10:14:00Z", "data": {"userId": "c"}}, ("c", T)),
    _case("Stripe", {"uid": "data.object.customer", "ts": "created"}, {"created": T, "data": {"object": {"customer": "cus_1"}}}, ("cus_1", T)),
    _case("Slack", {"uid": "event.user", "ts": "event.ts"}, {"event": {"user": "U1", "ts": "1716200040.000200"}}, ("U1", T)),
    _case("IoT in ms", {"uid": "deviceId", "ts": "ts", "ts_unit": "ms"}, {"deviceId": 17, "ts": T * 1000}, ("17", T)),
    _case("uuid", {}, {"uid": "0b1f6f0e-6c1c-4f0e-9b7a-0f3a0f3a0f3a", "ts": T}, ("0b1f6f0e-6c1c-4f0e-9b7a-0f3a0f3a0f3a", T)),
    _case("SHA-512 in hexadecimal", {}, {"uid": "f" * 128, "ts": T}, ("f" * 128, T)),
    # Ids
    _case("42", {}, {"uid": 42, "ts": T}, ("42", T)),
    _case("'42'", {}, {"uid": "42", "ts": T}, ("42", T)),
    _case("0", {}, {"uid": 0, "ts": T}, ("0", T)),
    _case("negative", {}, {"uid": -7, "ts": T}, ("-7", T)),
    _case("2 ** 64", {}, {"uid": 2**64, "ts": T}, ("18446744073709551616", T)),
    _case("256 digits", {}, {"uid": int("9" * 256), "ts": T}, ("9" * 256, T)),
    _case("257 digits", {}, {"uid": int("9" * 257), "ts": T}, Reason.BAD_UID),
    _case("42.0", {}, {"uid": 42.0, "ts": T}, Reason.BAD_UID),
    _case("1e3", {}, b'{"uid":1e3,"ts":1716200040}', Reason.BAD_UID),
    _case("true", {}, {"uid": True, "ts": T}, Reason.BAD_UID),
    _case("null", {}, {"uid": None, "ts": T}, Reason.BAD_UID),
    _case("empty", {}, {"uid": "", "ts": T}, Reason.BAD_UID),
    _case("a list", {}, {"uid": ["a"], "ts": T}, Reason.BAD_UID),
    _case("blank", {}, {"uid": "   ", "ts": T}, ("   ", T)),
    _case("zero byte", {}, {"uid": "a\0b", "ts": T}, ("a\0b", T)),
    _case("half an emoji in it", {}, b'{"uid":"\\ud83d","ts":1716200040}', Reason.NOT_JSON),
    _case("half an emoji elsewhere", {}, b'{"uid":"u","ts":1716200040,"text":"cut \\ud83d"}', ("u", T)),
    _case("half an emoji in a key", {}, b'{"\\ude00":1,"uid":"u","ts":1716200040}', ("u", T)),
    _case("broken UTF-8 and half an emoji elsewhere", {}, b'{"uid":"u","ts":1716200040,"text":"\xff \\ud83d"}', ("u", T)),
    # Times that are not meant
    _case("ms for s", {}, {"uid": "u", "ts": T * 1000}, Reason.BAD_TS),
    _case("s for ms", {"ts_unit": "ms"}, {"uid": "u", "ts": T}, Reason.BAD_TS),
    _case("s for ms, as a string", {"ts_unit": "ms"}, {"uid": "u", "ts": str(T)}, Reason.BAD_TS),
    _case("s for ms, as a float", {"ts_unit": "ms"}, {"uid": "u", "ts": T + 0.5}, Reason.BAD_TS),
    _case("ms for us", {"ts_unit": "us"}, {"uid": "u", "ts": T * 1000}, Reason.BAD_TS),
    _case("us for ns", {"ts_unit": "ns"}, {"uid": "u", "ts": T * 10**6}, Reason.BAD_TS),
    _case("ns for s", {}, {"uid": "u", "ts": T * 10**9}, Reason.BAD_TS),
    _case("zero", {}, {"uid": "u", "ts": 0}, Reason.BAD_TS),
    _case("the last second before 2000", {}, {"uid": "u", "ts": 946_684_799}, Reason.BAD_TS),
    _case("the first second of 2000", {}, {"uid": "u", "ts": 946_684_800}, ("u", 946_684_800)),
    _case("ISO before 2000", {}, {"uid": "u", "ts": "1999-12-31T23:59:59Z"}, Reason.BAD_TS),
    _case("old times meant", {"ts_min": date(1970, 1, 1)}, {"uid": "u", "ts": 5}, ("u", 5)),
    _case("just below the next second", {}, b'{"uid":"u","ts":"1716200040.999999999999999999"}', ("u", T)),
    # Many in one message
    _case("array", {}, [{"uid": "a", "ts": T}, {"uid": "b", "ts": T + 60}], ("a", T), ("b", T + 60)),
    _case("array, one bad", {}, [{"uid": "a", "ts": T}, {"uid": "", "ts": T}, 5, {"uid": "b", "ts": T}], ("a", T), Reason.BAD_UID, Reason.NOT_AN_OBJECT, ("b", T)),
    _case("array in an array", {}, [[{"uid": "a", "ts": T}]], Reason.NOT_AN_OBJECT),
    _case("empty array", {}, [], Reason.NOT_AN_OBJECT),
    _case("array cut off", {}, b'[{"uid":"a","ts":1716200040},', Reason.NOT_JSON),
    _case("array with half an emoji", {}, b'[{"uid":"a","ts":1716200040,"x":"\\ud83d"},{"uid":"b","ts":1716200040}]', ("a", T), ("b", T)),
    _case("array, pretty", {}, json.dumps([{"uid": "a", "ts": T}, {"uid": "b", "ts": T}], indent=2).encode(), ("a", T), ("b", T)),
    _case("NDJSON", {}, _lines({"uid": "a", "ts": T}, {"uid": "b", "ts": T}), ("a", T), ("b", T)),
    _case("NDJSON with CRLF and blank lines", {}, b'{"uid":"a","ts":1716200040}\r\n\r\n{"uid":"b","ts":1716200040}\r\n', ("a", T), ("b", T)),
    _case("NDJSON, a bad line", {}, b'{"uid":"a","ts":1716200040}\nnot json\n{"uid":"b","ts":1716200040}', ("a", T), Reason.NOT_JSON, ("b", T)),
    _case("NDJSON of arrays", {}, _lines([{"uid": "a", "ts": T}], [{"uid": "b", "ts": T}]), ("a", T), ("b", T)),
    _case("two on a line", {}, b'{"uid":"a","ts":1716200040}{"uid":"b","ts":1716200040}', ("a", T), ("b", T)),
    _case("two on a line, the second cut off", {}, b'{"uid":"a","ts":1716200040}{"uid":"b"', Reason.NOT_JSON),
    _case("pretty objects in a row", {}, b'{\n"uid":"a",\n"ts":1716200040\n}\n{\n"uid":"b",\n"ts":1716200040\n}\n', ("a", T), ("b", T)),
    _case("one pretty object", {}, json.dumps({"uid": "a", "ts": T}, indent=2).encode(), ("a", T)),
    _case("byte order mark", {}, b"\xef\xbb\xbf" + _lines({"uid": "a", "ts": T}), ("a", T)),
    _case("garbage after a frame", {}, b'{"uid":"a","ts":1716200040} x', Reason.NOT_JSON),
    _case("CSV", {}, b"u0,1716200040", Reason.NOT_JSON),
    _case("UTF-16", {}, '{"uid":"a","ts":1716200040}'.encode("utf-16"), Reason.NOT_JSON),
    _case("framed array", {"registry_framing": "json"}, b"\0\0\0\0\1" + _lines([{"uid": "a", "ts": T}]), ("a", T)),
    _case("NaN", {}, b'{"uid":"a","ts":NaN}', Reason.NOT_JSON),
    _case("times fall back too", {"ts": ["at", "ts"]}, {"uid": "a", "at": None, "ts": T}, ("a", T)),
    _case("string or object", {"uid": ["user.id", "user"]}, {"user": "a", "ts": T}, ("a", T)),
    _case("object or string", {"uid": ["user.id", "user"]}, {"user": {"id": "a"}, "ts": T}, ("a", T)),
]  # fmt: skip
