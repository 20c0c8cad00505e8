"""Where the three scripts report to: the one place to add an output."""

from collections.abc import Sequence
from functools import partial

from unique_users.clients.connect import get_producer
from unique_users.config.schema import Config
from unique_users.event_time.buckets import Calendar
from unique_users.metrics import Process
from unique_users.metrics.topic import MetricsTopic
from unique_users.reports.bucket_count import Format
from unique_users.reports.output import Output
from unique_users.reports.stdout import Stdout


def outputs(config: Config, form: Format, process: Process) -> Sequence[Output]:
    """Stdout, in the format that `--format` asks for; and the topic of metrics, if there is one."""
    found: list[Output] = [Stdout(form, Calendar(config.counter.timezone))]
    if topic := config.topics.metrics:
        found.append(MetricsTopic(process, topic.name, partial(get_producer, config)))
    return found
