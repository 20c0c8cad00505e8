"""The broker's metrics for Prometheus: the JMX exporter as an agent of the broker's own process.

Never in JAVA_TOOL_OPTIONS: Kafka's tools would load it too, and fail because its port is taken.
"""

from dataclasses import dataclass

from unique_users.local_kafka.errors import LocalKafkaError
from unique_users.local_kafka.jars import CONFIG_DIRECTORY, fetch_metrics_agent
from unique_users.local_kafka.probe import listens

DEFAULT_PORT = 9405
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Metrics:
    """What one broker tells at `http://127.0.0.1:PORT/metrics`; kafka-config/metrics.yml says which metrics."""

    port: int

    @property
    def url(self) -> str:
        """Where Prometheus finds it."""
        return f"http://{HOST}:{self.port}/metrics"

    @property
    def answers(self) -> bool:
        """Whether something listens there."""
        return listens(HOST, self.port)

    def java_options(self) -> list[str]:
        """The options for the broker's process; fetches the agent if it is missing. Raises LocalKafkaError."""
        return [f"-javaagent:{fetch_metrics_agent()}={HOST}:{self.port}:{CONFIG_DIRECTORY / 'metrics.yml'}"]

    def check_port(self) -> None:
        """Raise LocalKafkaError if another program has the port."""
        if self.answers:
            raise LocalKafkaError(
                f"port {self.port} is in use by another program: stop that one, or choose another with --metrics PORT"
            )

    def check_served(self) -> None:
        """Raise LocalKafkaError if a broker that runs already was started without it."""
        if not self.answers:
            raise LocalKafkaError(f"Kafka runs without metrics at {self.url}: stop it, then start it with --metrics")
