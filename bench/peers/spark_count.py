"""Unique users per minute with Spark Structured Streaming.

    python bench/peers/spark_count.py --bootstrap-servers localhost:9092 --topic feed --frames 30000 --out result.json

Exact: the users of a minute are one set in the state, and each micro-batch writes the sets that have grown again.
(`dropDuplicates` and then a count would be cheaper, but two stateful steps give results only once the watermark has
passed, a day late.) What is more than a day behind the newest frame is dropped. State and positions are in the
checkpoint, in --state or a directory of its own. The time begins when the query starts, so that planning is in it.
"""

import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from peer import SILENCE_SECONDS_MAX, Stopwatch, Task, finish, task
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

JARS = Path(__file__).resolve().parents[1] / ".venvs" / "spark-kafka" / "lib"  # made by spark/pom.xml
LATENESS = "1 day"
END_SECONDS = 30.0

_SETTINGS = {
    "spark.master": "local[2]",
    "spark.driver.memory": "1g",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.streaming.minBatchesToRetain": "2",
    "spark.sql.streaming.metricsEnabled": "false",
}
_SOURCE = {
    "startingOffsets": "earliest",
    "maxOffsetsPerTrigger": "250000",
    "minPartitions": "2",
    "failOnDataLoss": "true",
}


class Counts:
    """What the batches wrote: the newest count of each minute."""

    def __init__(self, asked: Task) -> None:
        self._asked = asked
        self.counts: dict[int, int] = {}

    def write(self, batch: DataFrame, _number: int) -> None:
        """Take in the minutes that have grown, and publish them."""
        rows = batch.collect()  # as many as minutes: the sets stay where they are
        self.counts.update((row.minute, row.users) for row in rows)
        if self._asked.counts and rows:
            records = batch.sparkSession.createDataFrame([(str(row.minute), str(row.users)) for row in rows], _RECORD)
            kafka = {"kafka.bootstrap.servers": self._asked.bootstrap_servers, "topic": self._asked.counts}
            records.write.format("kafka").options(**kafka).save()


_RECORD = "key string, value string"
# As a string column, uid would take in lists and numbers as text, and the first half of a broken frame.
_FRAME = "uid variant, ts variant, _corrupt_record string"
_IS_FRAME = (
    "coalesce(schema_of_variant(uid) = 'STRING' and schema_of_variant(ts) = 'BIGINT'"
    " and _corrupt_record is null, false)"
)


def counted(session: SparkSession, asked: Task) -> DataFrame:
    """The count of each minute."""
    source = {"kafka.bootstrap.servers": asked.bootstrap_servers, "subscribe": asked.topic, **_SOURCE}
    messages = session.readStream.format("kafka").options(**source).load()
    frame = sql.from_json(sql.col("value").cast("string"), _FRAME)
    read = messages.select(frame.alias("frame")).select("frame.*").withColumn("is_frame", sql.expr(_IS_FRAME))
    frames, rejected = sql.count(sql.lit(1)).alias("frames"), sql.count_if(~sql.col("is_frame")).alias("rejected")
    return (
        read.observe("read", frames, rejected)
        .where("is_frame")
        .selectExpr("timestamp_seconds(ts::bigint) as at", "uid::string as uid")
        .withWatermark("at", LATENESS)
        .groupBy(sql.window("at", "1 minute"))
        .agg(sql.size(sql.collect_set("uid")).alias("users"))
        .select(sql.unix_timestamp("window.start").alias("minute"), "users")
    )


def run(session: SparkSession, asked: Task, state: Path, watch: Stopwatch) -> tuple[Counts, int, int]:
    """Count until all frames were there, or none came for long. Returns frames and how many were rejected too."""
    counts = Counts(asked)
    query = (
        counted(session, asked)
        .writeStream.outputMode("update")
        .foreachBatch(counts.write)
        .option("checkpointLocation", str(state))
    )
    watch.start()
    running = query.start()
    frames, rejected, batch = 0, 0, -1
    heard = time.monotonic()
    while frames < asked.frames and time.monotonic() - heard < SILENCE_SECONDS_MAX:
        running.awaitTermination(0.05)
        for progress in running.recentProgress:
            if progress.batchId > batch and progress.numInputRows:
                batch, heard = progress.batchId, time.monotonic()
                seen = progress.observedMetrics["read"]
                frames, rejected = frames + seen.frames, rejected + seen.rejected
    watch.stop()
    running.stop()
    return counts, frames, rejected


class JvmStopwatch(Stopwatch):
    """A watch that knows the JVM, where the work is done."""

    def __init__(self, jvm: int) -> None:
        super().__init__()
        self._jvm = psutil.Process(jvm)

    def start(self) -> None:
        super().start()
        self.cpu_seconds -= sum(self._jvm.cpu_times()[:2])

    def stop(self) -> None:
        super().stop()
        self.cpu_seconds += sum(self._jvm.cpu_times()[:2])


def main() -> None:
    """Count, and write the result."""
    asked = task(__doc__)
    builder = SparkSession.builder.appName("unique-users").config("spark.jars", ",".join(map(str, JARS.glob("*.jar"))))
    for name, value in _SETTINGS.items():
        builder = builder.config(name, value)
    with tempfile.TemporaryDirectory() as place:
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        jvm = session.sparkContext._gateway.proc  # noqa: SLF001 - its CPU counts, and nobody else waits for its end
        watch = JvmStopwatch(jvm.pid)
        counts, frames, rejected = run(session, asked, asked.state or Path(place), watch)
        session.stop()
        with suppress(OSError):
            jvm.stdin.close()
        jvm.wait(END_SECONDS)
    settings = len(_SETTINGS) + len(_SOURCE)
    finish(asked, frames - rejected, counts.counts, watch, rejected=rejected, settings=settings)


if __name__ == "__main__":
    main()
