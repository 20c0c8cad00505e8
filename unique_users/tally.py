"""The tally of one partition of `bucketed`: which users each bucket has seen. Pure."""

from collections.abc import Iterable, Mapping


class Tally:
    """A set of uids for each bucket. Adding what is there already changes nothing."""

    def __init__(self) -> None:
        self._users: dict[int, set[str]] = {}

    def add(self, bucket: int, uids: Iterable[str]) -> None:
        """Add users to a bucket."""
        users = self._users.get(bucket)
        if users is None:
            self._users[bucket] = set(uids)
        else:
            users.update(uids)

    def counts(self) -> Mapping[int, int]:
        """The number of unique users of each bucket."""
        return {bucket: len(users) for bucket, users in self._users.items()}
