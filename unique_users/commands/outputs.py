"""Where the three scripts report to: the one place to add an output."""

from collections.abc import Sequence

from unique_users.config.schema import Config
from unique_users.event_time.buckets import Calendar
from unique_users.reports.bucket_count import Format
from unique_users.reports.output import Output
from unique_users.reports.stdout import Stdout


def outputs(config: Config, form: Format) -> Sequence[Output]:
    """Stdout, in the format that `--format` asks for."""
    return [Stdout(form, Calendar(config.counter.timezone))]
