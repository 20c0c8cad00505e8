"""The report on stdout: lines for people, or one JSON object for programs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from unique_users.doctor.finding import Finding, Status, all_well

_SHOWN = {Status.WRONG: "WRONG"}
_STATUS_WIDTH, _CHECK_WIDTH = 8, 16


def lines(findings: Iterable[Finding]) -> Iterator[str]:
    """Each finding in one line, and below it what to do; at the end a line that sums it up."""
    seen = []
    for finding in findings:
        seen.append(finding)
        yield _line(finding)
        if finding.do:
            yield f"{'':<{_STATUS_WIDTH}} {'':<{_CHECK_WIDTH}} do: {finding.do}"
    yield ""
    yield _sum(seen)


def as_json(findings: Sequence[Finding]) -> str:
    """Everything in one object; see docs/doctor.md."""
    found: list[dict[str, Any]] = [finding._asdict() for finding in findings]
    return orjson.dumps({"well": all_well(findings), "findings": found}).decode()


def _line(finding: Finding) -> str:
    status = _SHOWN.get(finding.status, finding.status.value)
    return f"{status:<{_STATUS_WIDTH}} {finding.check:<{_CHECK_WIDTH}} {finding.says}"


def _sum(findings: Sequence[Finding]) -> str:
    number = Counter(finding.status for finding in findings)
    parts = [f"{number[Status.WRONG]} wrong"] if number[Status.WRONG] else []
    parts += [f"{number[Status.SKIPPED]} not looked at"] if number[Status.SKIPPED] else []
    parts += [f"{number[Status.WARNING]} to know about"] if number[Status.WARNING] else []
    begin = "all is well" if all_well(findings) else "not well"
    return f"{begin}: {', '.join([*parts, f'{number[Status.OK]} ok'])}"
