import pytest

from unique_users.messages.partitioning import Layout, partition_of, partitions_of_keys

# For whoever writes this in another language; docs/design.md has them too.
VECTORS = {"123456789": 0xCBF43926, "a": 0xE8B7BE43, "user-1": 0x7E264614, "ü": 0x63D969D5}


@pytest.mark.parametrize(("uid", "crc"), VECTORS.items())
@pytest.mark.parametrize("partitions", [1, 2, 7, 64])
def test_the_partition_of_a_user_is_the_crc_32_of_its_utf_8_modulo_the_partitions(
    uid: str, crc: int, partitions: int
) -> None:
    assert partition_of(uid, partitions) == crc % partitions


@pytest.mark.parametrize("form", ["{}", "user-{:07d}", "{:019x}", "{}@example.com"])
def test_users_with_names_in_a_row_are_spread_evenly(form: str) -> None:
    counts = [0] * 64
    for number in range(64_000):
        counts[partition_of(form.format(number), 64)] += 1
    assert max(counts) <= 1.15 * 1_000
    assert min(counts) >= 0.85 * 1_000


# As Kafka's own clients have them (Utils.murmur2 in the Java client's tests), without the sign.
MURMUR2 = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}


@pytest.mark.parametrize("partitions", [1, 2, 3, 64])
def test_the_partition_of_a_key_is_the_one_that_kafkas_own_clients_choose(partitions: int) -> None:
    expected = [(signed & 0x7FFFFFFF) % partitions for signed in MURMUR2.values()]
    assert partitions_of_keys(list(MURMUR2), partitions) == expected


TOPIC = Layout("id", "uid", 4)


@pytest.mark.parametrize(
    ("former", "fits"),
    [
        (TOPIC, True),
        (TOPIC._replace(partitions=2), False),
        (TOPIC._replace(partition_by="bucket"), False),
        (TOPIC._replace(topic_id="another", partitions=2), True),
    ],
)
def test_a_layout_fits_only_one_that_puts_each_user_where_it_was(former: Layout, fits: bool) -> None:  # noqa: FBT001
    assert TOPIC.fits(former) is fits


def test_with_one_partition_every_way_to_choose_it_is_the_same() -> None:
    assert Layout("id", "uid", 1).fits(Layout("id", "bucket", 1))


@pytest.mark.parametrize("layout", [TOPIC, Layout("", "bucket", 1)])
def test_a_layout_is_read_as_it_was_written(layout: Layout) -> None:
    assert Layout.parsed(str(layout)) == layout


@pytest.mark.parametrize("text", ["", "id", "id/uid", "id/uid/x", "id/uid/"])
def test_a_text_that_is_no_layout_is_none(text: str) -> None:
    assert Layout.parsed(text) is None
