r"""Pin the jars of one Kafka version, or of the metrics agent: resolve coordinates, write every jar with its SHA-256.

    python kafka-config/lock_jars.py kafka-4.3.1 org.apache.kafka:kafka_2.13:4.3.1 org.apache.kafka:kafka-tools:4.3.1 \
        org.slf4j:slf4j-simple:1.7.36
    python kafka-config/lock_jars.py kafka-2.4.0 org.apache.kafka:kafka_2.11:2.4.0 org.slf4j:slf4j-simple:1.7.28
    python kafka-config/lock_jars.py metrics-agent io.prometheus.jmx:jmx_prometheus_javaagent:1.0.1

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
    """Write `NAME.lock.toml` beside this file."""
    name, *coordinates = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        builder = EnvironmentBuilder(context=MavenContext(), cache_dir=Path(scratch))
        lock = builder.from_endpoint("+".join(coordinates)).lockfile
        if lock is None:
            sys.exit(f"no lock was made for {coordinates}")
        pinned = LockFile(dependencies=lock.dependencies, environment_name=name)
    pinned.save(HERE / f"{name}.lock.toml")


if __name__ == "__main__":
    main()
