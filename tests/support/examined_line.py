"""The scripts that the doctor looks at, and what feeds them."""

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from examined import Examined, examine
from kafka import KafkaAdminClient, KafkaProducer
from patience import until
from running import Running


class Line:
    """The scripts, and frames that come as long as a test takes."""

    def __init__(self, broker: str, directory: Path) -> None:
        self.broker = broker
        self.running = Running(broker, directory)
        self.feed = self.running.topic("feed")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def examine(self, *settings: str, **rest: Any) -> Examined:
        return examine(self.running, *settings, **rest)

    def make_topics(self) -> None:
        self.running.run("bucketer", "--until-caught-up")
        self.running.run("counter", "--until-caught-up")

    def send(self, *frames: bytes, **rest: Any) -> None:
        with KafkaProducer(bootstrap_servers=self.broker) as producer:
            for frame in frames:
                producer.send(self.feed, frame, **rest)
            producer.flush()

    def keep_sending(self, partitions: int = 1) -> None:
        def send() -> None:
            with KafkaProducer(bootstrap_servers=self.broker) as producer:
                while not self._stop.wait(0.1):
                    for partition in range(partitions):
                        producer.send(self.feed, frame(), partition=partition)

        self._threads.append(threading.Thread(target=send))
        self._threads[-1].start()

    def start(self, script: str) -> "subprocess.Popen[str]":
        return self.running.start(script)

    def until_joined(self, script: str, members: int = 1) -> None:
        group = f"{self.running.name}-{script}"

        def joined() -> bool:
            with KafkaAdminClient(bootstrap_servers=self.broker) as admin:
                told = admin.describe_groups([group])[group]
            assigned = [member["member_assignment"] for member in told["members"]]
            reading = [each for each in assigned if isinstance(each, dict) and each["assigned_partitions"]]
            return told["group_state"] == "Stable" and len(reading) == members

        until(joined, f"{script} to have partitions")

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for process in self.running.processes:
            process.send_signal(signal.SIGCONT)
        self.running.end_all()


def frame(uid: int = 1) -> bytes:
    return b'{"uid": "u%d", "ts": %d}' % (uid, time.time())
