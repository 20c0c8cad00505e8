"""What this user may do, as the broker tells it: nothing is tried."""

from collections.abc import Iterator
from typing import NamedTuple

from unique_users.config.schema import Config
from unique_users.doctor.examination import Examination
from unique_users.doctor.finding import Finding, ok, unknown, warning, wrong
from unique_users.errors import BrokerAwayError, BrokerError

NAME = "rights"
READ, WRITE, DESCRIBE, SETTINGS = "READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"


class Right(NamedTuple):
    """An operation on a topic or a group."""

    operation: str
    kind: str  # topic or group
    name: str

    def __str__(self) -> str:
        return f"{self.operation.replace('_', ' ').title().replace(' ', '')} on {self.kind} {self.name}"

    def granted(self) -> str:
        """The words of `kafka-acls` that grant it."""
        return f"--operation {str(self).partition(' ')[0]} --{self.kind} {self.name}"


class Role(NamedTuple):
    """What a script needs. A user with the first right is meant to run it."""

    script: str
    rights: tuple[Right, ...]


def roles(config: Config) -> list[Role]:
    """The rights that docs/operations.md names, without those that only tell settings."""
    topics = config.topics
    feed, bucketed, counts, rejected = (
        topics.feed.name,
        topics.bucketed.name,
        topics.counts.name,
        topics.rejected.name,
    )
    bucketer, counter = config.bucketer.group, config.counter.group
    return [
        Role("producer", (Right(WRITE, "topic", feed), Right(WRITE, "topic", rejected))),
        Role(
            "bucketer",
            (
                Right(READ, "group", bucketer),
                Right(READ, "topic", feed),
                Right(WRITE, "topic", bucketed),
                Right(WRITE, "topic", rejected),
            ),
        ),
        Role(
            "counter",
            (
                Right(READ, "group", counter),
                Right(READ, "topic", bucketed),
                Right(DESCRIBE, "topic", feed),
                Right(DESCRIBE, "group", bucketer),
                Right(WRITE, "topic", counts),
                Right(READ, "topic", counts),
                Right(WRITE, "topic", rejected),
            ),
        ),
        Role(
            "the queries",
            (
                Right(READ, "topic", counts),
                Right(READ, "topic", rejected),
                Right(DESCRIBE, "topic", feed),
                Right(DESCRIBE, "topic", bucketed),
                Right(DESCRIBE, "group", bucketer),
                Right(DESCRIBE, "group", counter),
            ),
        ),
    ]


def look(examination: Examination) -> Iterator[Finding]:
    """Compare what each script needs with what the broker says this user may do."""
    told = _Told(examination)
    all_roles = roles(examination.config)
    lacking = {role.script: [right for right in role.rights if told.lacks(right)] for role in all_roles}
    if told.unknown and not any(lacking.values()):
        yield unknown(NAME, f"the broker does not tell the rights to {', '.join(sorted(told.unknown))}")
        return
    whole = [script for script, rights in lacking.items() if not rights]
    meant = [role for role in all_roles if role.rights[0] not in lacking[role.script] and lacking[role.script]]
    meant = [role for role in meant if role.script != "the queries"]
    for role in meant or ([] if whole else all_roles[:3]):
        missing = lacking[role.script]
        words = " ".join(dict.fromkeys(right.granted() for right in missing))
        yield wrong(
            NAME,
            f"{role.script} lacks {', '.join(map(str, missing))}",
            f"as an administrator: `kafka-acls --add --allow-principal User:… {words}`, one command for each right",
        )
    if whole:
        not_whole = [role.script for role in all_roles if lacking[role.script] and role not in meant]
        but = f"; not {', '.join(not_whole)}" if not_whole else ""
        yield ok(NAME, f"this user may run {', '.join(whole)}{but}")
    if unreadable := [name for name in examination.details if name not in examination.settings]:
        says = f"this user lacks the right DescribeConfigs on {', '.join(unreadable)}: settings are not checked"
        yield warning(NAME, says, "grant it as docs/operations.md says")


class _Told:
    """What the broker tells, asked once for each topic and group."""

    def __init__(self, examination: Examination) -> None:
        self._examination = examination
        self._known: dict[tuple[str, str], frozenset[str] | None] = {}
        self.unknown: set[str] = set()

    def lacks(self, right: Right) -> bool:
        """Whether the user has not this right. What is unknown is not lacking."""
        resource = (right.kind, right.name)
        if resource not in self._known:
            self._known[resource] = self._asked(right)
        rights = self._known[resource]
        if rights is None:
            self.unknown.add(right.name)
        return rights is not None and right.operation not in rights

    def _asked(self, right: Right) -> frozenset[str] | None:
        admin = self._examination.admin
        try:
            if right.kind == "topic":
                details = admin.details(right.name)
                return None if details is None else details.rights
            return admin.group_details(right.name).rights if groups_exist(self._examination) else None
        except BrokerAwayError:
            raise
        except BrokerError:
            return frozenset()


def groups_exist(examination: Examination) -> bool:
    """Whether the cluster has had any group. Asked about one, a cluster that has had none creates a topic for them."""
    try:
        return examination.admin.describe("__consumer_offsets") is not None
    except BrokerAwayError:
        raise
    except BrokerError:
        return True
