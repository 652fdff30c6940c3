"""What a run of checks came to, and its JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from cali_infra.verify.checks import Check, Family, Result, Status


@dataclass(frozen=True)
class Line:
    """A check and its result."""

    check: Check
    result: Result


@dataclass(frozen=True)
class Report:
    """The lines in the order of the checks; `at` is when the run began, `seconds` how long it took.

    `interrupted` says that what was skipped may only not have been reached.
    """

    lines: tuple[Line, ...]
    at: datetime
    seconds: float
    interrupted: bool = False

    def ok(self, strict: bool = False) -> bool:
        """Nothing failed, and with `strict` nothing warns; the run came to its end."""
        bad = {Status.FAIL, Status.WARN} if strict else {Status.FAIL}
        return not self.interrupted and all(line.result.status not in bad for line in self.lines)

    def counts(self) -> dict[Status, int]:
        """How many checks ended in which way, all four of them."""
        found = Counter(line.result.status for line in self.lines)
        return {status: found[status] for status in Status}

    def families(self) -> Iterator[tuple[Family, tuple[Line, ...]]]:
        """The lines by family, in the families' order."""
        for family in Family:
            lines = tuple(line for line in self.lines if line.check.family is family)
            if lines:
                yield family, lines

    def of(self, *statuses: Status) -> tuple[Line, ...]:
        """The lines that ended in one of these ways."""
        return tuple(line for line in self.lines if line.result.status in statuses)

    def updated(self, newer: Report) -> Report:
        """This report with the results of a later run over some of its checks."""
        results = {line.check.id: line.result for line in newer.lines}
        lines = tuple(replace(line, result=results.get(line.check.id, line.result)) for line in self.lines)
        return replace(self, lines=lines, interrupted=newer.interrupted)

    def cleaned(self, clean: Callable[[str], str]) -> Report:
        """The report with every text passed through `clean`, for a file that is kept."""
        return replace(
            self,
            lines=tuple(
                replace(
                    line,
                    result=replace(
                        line.result, detail=clean(line.result.detail), remedy=clean(line.result.remedy)
                    ),
                )
                for line in self.lines
            ),
        )

    def document(self, strict: bool = False) -> dict[str, object]:
        """The JSON of `cali verify`."""
        return {
            "ok": self.ok(strict),
            "at": f"{self.at:%Y-%m-%dT%H:%M:%SZ}",
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "checks": [
                {
                    "id": check.id,
                    "family": check.family.value,
                    "title": check.title,
                    "status": result.status.value,
                    "detail": result.detail,
                    "remedy": result.remedy,
                    "seconds": round(result.seconds, 3),
                    "measurements": {name: round(value, 3) for name, value in result.measurements.items()},
                }
                for check, result in ((line.check, line.result) for line in self.lines)
            ],
        }
