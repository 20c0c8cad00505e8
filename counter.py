"""`python counter.py`, the same as `unique-users counter`."""

import sys

from unique_users.commands import run

if __name__ == "__main__":
    run("counter", "counter.py", sys.argv[1:])
