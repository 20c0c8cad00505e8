"""All rows of the matrix: importing them enters them."""

import rows_cluster  # noqa: F401
import rows_copies  # noqa: F401
import rows_frames  # noqa: F401
import rows_groups  # noqa: F401
import rows_history  # noqa: F401
import rows_large  # noqa: F401
import rows_marks  # noqa: F401
import rows_network  # noqa: F401
import rows_processes  # noqa: F401
import rows_rolling  # noqa: F401
import rows_security  # noqa: F401
import rows_spread  # noqa: F401
import rows_state  # noqa: F401
import rows_stuck  # noqa: F401
import rows_topics  # noqa: F401
import rows_vanishing  # noqa: F401
from harness import ROWS

__all__ = ["ROWS"]
