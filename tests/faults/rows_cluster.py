"""Row 7: a cluster of three, of which nodes die."""

from harness import BROKER_PROPERTIES, Run, row
from rows_network import PRODUCER_RSS_BYTES_MAX
from system import System

from unique_users.local_kafka.broker import LocalKafka, free_port
from unique_users.local_kafka.cluster import LocalCluster

NODES = 3
WAITING = "waiting for the broker to acknowledge"


@row(7, "three brokers: leader killed, controller killed, two of three down")
def nodes_die(run: Run) -> None:
    run.directory.mkdir(parents=True, exist_ok=True)
    copied = {"replication": NODES, "settings": {"min.insync.replicas": 2}}
    topics = dict.fromkeys(("feed", "bucketed", "counts", "rejected"), copied)
    frames = run.sample(run.scale(5_000, 30_000))
    cluster = LocalCluster("4.3.1", run.directory / "kafka", free_port(), NODES, properties=BROKER_PROPERTIES)
    with cluster, run.system({"topics": topics}, broker=cluster.bootstrap_servers) as system:
        producer = system.start_producer(frames, run.scale(400, 600))
        system.start_bucketer()
        system.start_counter()
        system.until(lambda: system.written(system.config.topics.counts.name) > 0, "a first count")
        for which in ["leader", "controller"] * run.scale(1, 4):
            run.pause(0.3, 2)
            run.inject(kill=True)
            node = cluster.nodes[(leader if which == "leader" else controller)(run, system) - 1]
            node.kill()
            run.pause(0, run.scale(2, 6))
            node.start()
        more: list[bytes] = []
        for _ in range(run.scale(1, 2)):
            more += two_down(run, system, cluster)
        code = producer.wait(180)
        run.expect(code == 0, f"producer ended with {code}: {producer.complaints}")
        system.until_caught_up()
        run.verify(system, [*frames, *more])


def two_down(run: Run, system: System, cluster: LocalCluster) -> list[bytes]:
    """Take two of three down while a second producer sends as fast as it can; return what that one sends."""
    # More than the bound: an unbounded producer takes all of it, and twice that when it is packed as well.
    frames = run.sample(run.scale(30_000, 150_000))
    producer = system.start_producer(frames)
    run.pause(0.5, 1.5)
    down: list[LocalKafka] = run.random.sample(cluster.nodes, 2)
    for node in down:
        run.inject(kill=True)
        node.kill()
    system.until(lambda: WAITING in producer.complaints or not producer.alive, "the producer to say that it waits")
    run.expect(producer.alive, f"the producer ended without a majority of brokers: {producer.complaints}")
    run.pause(2, run.scale(4, 15))
    cluster.start()
    code = producer.wait(180)
    run.expect(code == 0, f"the second producer ended with {code}: {producer.complaints}")
    run.measure("MB of memory of a producer", producer.rss_bytes_max / 1e6)
    run.expect(producer.rss_bytes_max < PRODUCER_RSS_BYTES_MAX, f"producer took {producer.rss_bytes_max / 1e6:.0f} MB")
    return frames


def leader(run: Run, system: System) -> int:
    """The node that leads the partition of a topic that is written to."""
    topic = run.random.choice([system.config.topics.feed.name, system.config.topics.bucketed.name])
    (described,) = system.admin.describe_topics([topic])
    return int(described["partitions"][0]["leader_id"])


def controller(_run: Run, system: System) -> int:
    """The node that leads the controllers."""
    (topic,) = system.admin.describe_metadata_quorum()["topics"]
    return int(topic["partitions"][0]["leader_id"])
