"""Dead letters fit, whatever the topic takes; against the fake, which refuses what is too large as a broker does."""

import os

import pytest
import zstandard
from fakes import FakeAdmin, FakeKafka, FakeProducer
from hypothesis import given
from hypothesis import strategies as st

from unique_users.clients.protocols import REQUEST_BYTES_MAX
from unique_users.clients.sending import COMPRESSION, DeadLetters, Letter, Sending
from unique_users.clients.topics import BATCH_BYTES_NEEDED, batch_bytes_max
from unique_users.errors import DeliveryError, TopicError

HEADERS = [("reason", b"too_large"), ("detail", b"x" * 200)]
NOISE = os.urandom(10_000)


class Post:
    """Dead letters for a topic that takes `bytes_max` of them, and says so if it `tells`."""

    def __init__(self, kafka: FakeKafka, bytes_max: int, *, tells: bool = True) -> None:
        self.kafka = kafka
        self.tells = tells
        self.producers: list[FakeProducer] = []
        self.limit(bytes_max)
        self.letters = DeadLetters("rejected", self._bytes_max, self._new_producer)

    def limit(self, bytes_max: int) -> None:
        self.kafka.topics["rejected"].settings["max.message.bytes"] = str(bytes_max)

    def _bytes_max(self) -> int:
        return batch_bytes_max(FakeAdmin(self.kafka), "rejected") if self.tells else REQUEST_BYTES_MAX

    def _new_producer(self, _bytes_max: int) -> FakeProducer:
        self.producers.append(FakeProducer(self.kafka, COMPRESSION))
        return self.producers[-1]

    def arrived(self) -> list[tuple[bytes, dict[str, bytes]]]:
        return [(record.value or b"", record.named) for record in self.kafka.records("rejected")]


def test_a_letter_that_fits_goes_as_it_came_and_only_the_first_makes_a_producer(kafka: FakeKafka) -> None:
    post = Post(kafka, 1_000_000)
    assert post.letters.backpressure_eased(0)
    assert post.letters.flush(0)
    assert post.producers == []
    post.letters.send(b"v", HEADERS)
    assert post.letters.backpressure_eased(0)
    assert post.letters.flush(0)
    assert post.arrived() == [(b"v", dict(HEADERS))]
    assert len(post.producers) == 1


def test_what_fits_compressed_is_not_cut(kafka: FakeKafka) -> None:
    post = Post(kafka, 10_000)
    post.letters.send(b" " * 5_000_000, HEADERS)
    assert post.letters.flush(0)
    assert post.arrived() == [(b" " * 5_000_000, dict(HEADERS))]


def test_what_does_not_fit_is_cut_and_says_how_much_of_it_is_kept(kafka: FakeKafka) -> None:
    post = Post(kafka, 10_000)
    value = os.urandom(2_000_000)
    post.letters.send(value, HEADERS)
    assert post.letters.flush(0)
    ((kept, headers),) = post.arrived()
    assert 9_000 < len(kept) < 10_000
    assert value.startswith(kept)
    assert headers == {**dict(HEADERS), "bytes_kept": b"%d" % len(kept), "bytes_total": b"2000000"}
    assert len(post.producers) == 1, "without a refusal"


def test_a_letter_keeps_its_key_also_when_it_is_cut(kafka: FakeKafka) -> None:
    post = Post(kafka, 10_000)
    sending = Sending(FakeProducer(kafka), post.letters)
    for value in (b"v", os.urandom(20_000)):
        sending.send("rejected", value, b"a key", HEADERS)
    assert sending.flush(0)
    assert kafka.keys("rejected") == [b"a key"] * 2
    assert "bytes_kept" in post.arrived()[1][1]


def test_what_no_producer_takes_is_cut_to_what_one_takes(kafka: FakeKafka) -> None:
    post = Post(kafka, 8_388_608)
    post.letters.send(b" " * 40_000_000, HEADERS)
    assert post.letters.flush(0)
    ((kept, headers),) = post.arrived()
    assert REQUEST_BYTES_MAX - 1_000 < len(kept) < REQUEST_BYTES_MAX
    assert headers["bytes_total"] == b"40000000"


@pytest.mark.parametrize("tells", [True, False], ids=["asked", "not to be asked"])
def test_a_topic_that_takes_less_by_now_gets_shorter_letters_and_none_is_lost(kafka: FakeKafka, *, tells: bool) -> None:
    post = Post(kafka, 1_000_000, tells=tells)
    values = [b"%d" % number + os.urandom(50_000) for number in range(3)]
    post.letters.send(values[0], HEADERS)
    assert post.letters.flush(0)
    post.limit(BATCH_BYTES_NEEDED)
    for value in values[1:]:
        post.letters.send(value, HEADERS)
    assert post.letters.flush(0)
    (_, *later) = post.arrived()
    assert [kept[:1] for kept, _ in later] == [b"1", b"2"]
    assert all(headers["bytes_total"] == b"50001" for _, headers in later)
    producers = len(post.producers)
    post.letters.send(values[0], HEADERS)
    assert post.letters.flush(0)
    assert len(post.producers) == producers, "what was learned is not forgotten"


def test_a_topic_that_takes_nothing_at_all_ends_it_with_one_line(kafka: FakeKafka) -> None:
    post = Post(kafka, 1, tells=False)
    post.letters.send(b"v" * 1_000, HEADERS)
    with pytest.raises(TopicError, match=r"'rejected' takes no records: .*: raise its max\.message\.bytes"):
        post.letters.flush(0)


def test_a_broker_that_is_away_is_waited_for(kafka: FakeKafka) -> None:
    post = Post(kafka, 1_000_000)
    post.letters.send(b"v", HEADERS)
    kafka.away = True
    assert not post.letters.backpressure_eased(1)
    assert not post.letters.flush(1)
    kafka.away = False
    assert post.letters.flush(1)
    assert [value for value, _ in post.arrived()] == [b"v"]


def test_letters_that_wait_are_bounded(kafka: FakeKafka) -> None:
    post = Post(kafka, 1_000_000)
    for _ in range(20_000):
        post.letters.send(b"v" * 1_000, HEADERS)
    assert post.letters.backpressure_eased(1)
    assert len(post.arrived()) == 20_000, "they are flushed before more are taken"


def test_another_failure_is_the_loops_business(kafka: FakeKafka) -> None:
    post = Post(kafka, 1_000_000)
    kafka.refuse_after = 0
    post.letters.send(b"v", HEADERS)
    with pytest.raises(DeliveryError):
        post.letters.flush(0)


@given(st.binary(max_size=3_000), st.integers(BATCH_BYTES_NEEDED, 6_000), st.integers(0, 1_000))
def test_a_fitted_letter_fits_and_keeps_what_it_can(seed: bytes, bytes_max: int, repeats: int) -> None:
    value = seed * repeats
    letter = Letter(value, HEADERS, len(value)).fitted(bytes_max)
    headers = sum(len(name) + len(text or b"") for name, text in letter.headers)
    assert len(zstandard.compress(letter.value)) + headers <= bytes_max
    assert value.startswith(letter.value)
    if len(letter.value) < len(value):
        assert len(letter.value) > bytes_max - 600
        assert dict(letter.headers)["bytes_total"] == b"%d" % len(value)
    else:
        assert letter.headers == HEADERS


@given(st.integers(0, 9_000), st.integers(0, 9_000), st.integers(0, 9_000), st.integers(BATCH_BYTES_NEEDED, 10_000))
def test_a_key_and_headers_that_are_too_large_are_left_out_and_said(
    value: int, key: int, header: int, bytes_max: int
) -> None:
    letter = Letter(NOISE[:value], [("trace", NOISE[:header]), *HEADERS], value, NOISE[:key])
    fitted = letter.fitted(bytes_max)
    size = len(fitted.value) + len(fitted.key or b"")
    assert size + sum(len(name) + len(text or b"") for name, text in fitted.headers) <= bytes_max
    if "left_out" in dict(fitted.headers):
        assert (fitted.key, fitted.headers[0]) == (None, HEADERS[0])
        assert key + header + 512 > bytes_max // 2  # the rest of it takes less than that
    else:
        assert (fitted.key, fitted.headers[:3]) == (letter.key, letter.headers)


def test_sending_covers_both(kafka: FakeKafka) -> None:
    post = Post(kafka, 1_000_000)
    producer = FakeProducer(kafka)
    sending = Sending(producer, post.letters)
    sending.send_all("bucketed", [b"a", b"b"], [b"60", b"60"], [0, 0])
    sending.send("bucketed", b"c", b"60", partition=0)
    sending.send("rejected", b"v", headers=HEADERS)
    assert sending.partitions("bucketed") == 1
    assert sending.backpressure_eased(0)
    assert sending.flush(0)
    assert kafka.values("bucketed") == [b"a", b"b", b"c"]
    assert kafka.values("rejected") == [b"v"]
    sending.close()
    assert producer.closed
    assert post.producers[0].closed
