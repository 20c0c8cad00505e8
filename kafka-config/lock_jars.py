r"""Pin the jars of one Kafka version: resolve its Maven coordinates and write every jar with its SHA-256.

    python kafka-config/lock_jars.py 4.3.1 org.apache.kafka:kafka_2.13:4.3.1 org.apache.kafka:kafka-tools:4.3.1 \
        org.slf4j:slf4j-simple:1.7.36
    python kafka-config/lock_jars.py 2.4.0 org.apache.kafka:kafka_2.11:2.4.0 org.slf4j:slf4j-simple:1.7.28

`slf4j-simple` prints the broker's log on its standard error; the distribution's own log4j files are not needed.
"""

import sys
import tempfile
from pathlib import Path

from jgo.env import EnvironmentBuilder
from jgo.env._lockfile import LockFile
from jgo.maven import MavenContext

HERE = Path(__file__).parent


def main() -> None:
    """Write `kafka-VERSION.lock.toml` beside this file."""
    kafka_version, *coordinates = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        builder = EnvironmentBuilder(context=MavenContext(), cache_dir=Path(scratch))
        lock = builder.from_endpoint("+".join(coordinates)).lockfile
        if lock is None:
            sys.exit(f"no lock was made for {coordinates}")
        pinned = LockFile(dependencies=lock.dependencies, environment_name=f"kafka-{kafka_version}")
    pinned.save(HERE / f"kafka-{kafka_version}.lock.toml")


if __name__ == "__main__":
    main()
