"""What monitoring sees of a process: metrics for Prometheus, its health, and a topic of metrics."""

from typing import Literal

Process = Literal["producer", "bucketer", "counter", "dashboard"]
