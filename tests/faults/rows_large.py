"""Row 19: records that fit nowhere, and batches that unpack to too much."""

import time
from collections import Counter

from bombs import send_bomb
from harness import Run, row
from kafka.admin import ConfigResource, ConfigResourceType
from system import System

from unique_users.messages.frame import Reason
from unique_users.messages.frame_totals import FrameTotals
from unique_users.queries.recount import Recount, recount

MEBIBYTE = 1 << 20
BOMB_MEBIBYTES = 400
# Of the other codecs librdkafka unpacks all, whatever it is.
CODECS = {"librdkafka": ["zstd"], "kafka-python": ["gzip", "lz4", "zstd"]}
SMALL = {
    "bucketed": {"settings": {"max.message.bytes": 20_000}},
    "rejected": {"settings": {"max.message.bytes": 500_000}},
}


@row(19, "records that fit neither `bucketed` nor `rejected`; batches that unpack to 400 MB")
def large(run: Run) -> None:
    """A stream with both in it, at random places; `rejected` takes less in the middle of it."""
    parts = run.scale(3, 20)
    sample = run.sample(run.scale(2_000, 20_000))
    cuts = [0, *sorted(run.random.sample(range(1, len(sample)), parts - 1)), len(sample)]
    huge = [run.random.randbytes(run.random.randrange(MEBIBYTE + 1, 4 * MEBIBYTE)) for _ in range(parts)]
    bombs = [run.random.choice([1, run.random.randrange(2, 500)]) for _ in range(parts)]
    # Batches that unpack to so much are sent to partition 0, and nobody else can read these.
    with run.system({"topics": SMALL}, behind=False) as system:
        system.make_topics()
        bucketer, counter = system.start_bucketer(), system.start_counter()
        for number in range(parts):
            if number == parts // 2:
                system.until_caught_up()
                take_less(system, system.config.topics.rejected.name, 50_000)
            system.send([*sample[cuts[number] : cuts[number + 1]], huge[number]])
            bomb(run, system.config.topics.feed.name, run.random.choice(CODECS[run.client]), bombs[number])
            run.inject()
        system.until_bucketed()
        bomb(run, system.config.topics.bucketed.name, "zstd", 1)  # 13 kB, which the topic takes
        run.inject()
        system.send(sample[:100])
        system.until_caught_up()
        run.expect(bucketer.alive and counter.alive, "a process ended")
        check_repeats(run, system, len(sample) + 100 + 1)
        check_letters(run, system, huge)
        frames = [*sample, *huge, *sample[:100]]
        counted = recount(frames, system.config, int(time.time() * 1000))
        passed = FrameTotals(sum(bombs), 0, Counter({Reason.TOO_LARGE.value: sum(bombs)}))
        run.verify(system, frames, Recount(counted.users, counted.counts + passed))
        run.measure("MB in a process", max(worker.rss_bytes_max for worker in system.workers) / 1e6)


def bomb(run: Run, topic: str, codec: str, records: int) -> None:
    send_bomb(run.broker, topic, codec, mebibytes=BOMB_MEBIBYTES, records=records)


def take_less(system: System, topic: str, bytes_max: int) -> None:
    limit = {"max.message.bytes": str(bytes_max)}
    system.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, limit)])


def check_repeats(run: Run, system: System, records: int) -> None:
    written = system.written(system.config.topics.bucketed.name)
    run.expect(written <= records, f"{written} records in bucketed, not {records}: what was refused was sent again")


def check_letters(run: Run, system: System, huge: list[bytes]) -> None:
    """The first bytes of each are kept, with the reason, and how many there were."""
    letters = [record for record in system.read(system.config.topics.rejected.name) if record.value]
    for value in huge:
        kept = [
            letter
            for letter in letters
            if letter.headers.get("bytes_total") == b"%d" % len(value)
            and letter.headers.get("bytes_kept") == b"%d" % len(letter.value or b"")
            and value.startswith(letter.value or b"-")
        ]
        run.expect(len(kept) >= 1, f"a record of {len(value)} bytes is not in rejected")
        run.expect(all(letter.headers["reason"] == b"too_large" for letter in kept), "a letter has another reason")
