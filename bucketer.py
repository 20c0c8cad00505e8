"""`python bucketer.py`, the same as `unique-users bucketer`."""

import sys

from unique_users.commands import run

if __name__ == "__main__":
    run("bucketer", "bucketer.py", sys.argv[1:])
