"""`python producer.py`, the same as `unique-users producer`."""

import sys

from unique_users.commands import run

if __name__ == "__main__":
    run("producer", "producer.py", sys.argv[1:])
