"""What checks look like on a terminal: a line while they run, tables by family, and what was found wrong last.

It makes words of reports and writes nothing. Who writes, and where to, is `ui.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cali_infra.verify.checks import Check, Result
    from cali_infra.verify.report import Report

# As `checks.Status` has them; named by value, for this is imported with the UI.
_UNICODE = {"pass": "\u2713", "warn": "!", "fail": "\u2717", "skip": "\u2013"}
_ASCII = {"pass": "ok", "warn": "!", "fail": "x", "skip": "-"}
STYLE = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}
COLUMNS = ("", "check", "found", "time")
_SPINNER = {True: "\u280b\u2819\u2839\u2838\u283c\u2834\u2826\u2827\u2807\u280f", False: "|/-\\"}
_NAMED = 3


@dataclass(frozen=True)
class Table:
    """One family: its rows, and the style of each."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    styles: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that was found wrong."""

    heading: str
    cause: str
    remedy: str
    style: str


@dataclass
class Running:
    """The checks under way, for the line that shows them."""

    total: int
    utf: bool
    done: int = 0
    bad: int = 0
    under_way: dict[str, None] = field(default_factory=dict)

    def started(self, check: Check) -> None:
        self.under_way[check.id] = None

    def ended(self, check: Check, result: Result) -> None:
        self.under_way.pop(check.id, None)
        self.done += 1
        self.bad += result.status.value == "fail"

    def again(self, left: int) -> None:
        """Another round begins, over so many checks."""
        self.total, self.done, self.bad = left, 0, 0

    def line(self, seconds: float) -> str:
        """`12 of 45 checks, 1 failed, eks.addons, search.auth and 3 more`."""
        spinner = _SPINNER[self.utf]
        names = list(self.under_way)
        shown = names[:_NAMED] + ([f"{len(names) - _NAMED} more"] if len(names) > _NAMED else [])
        bad = f", {self.bad} failed" if self.bad else ""
        turn = spinner[int(seconds * 10) % len(spinner)]
        return f"{turn} {self.done} of {self.total} checks{bad}: {', '.join(shown)}".rstrip(": ")


def tables(report: Report, *, utf: bool) -> Iterator[Table]:
    """A table for each family."""
    icons = _UNICODE if utf else _ASCII
    for family, lines in report.families():
        rows = tuple(
            (
                icons[line.result.status.value],
                line.check.id,
                " ".join(line.result.detail.split()),
                f"{line.result.seconds:.2f} s" if line.result.seconds else "",
            )
            for line in lines
        )
        yield Table(family.title, rows, tuple(STYLE[line.result.status.value] for line in lines))


def findings(report: Report) -> Iterator[Finding]:
    """What warns, and then what failed: the last thing on the screen is what most wants to be read."""
    order = {"warn": 0, "fail": 1}
    bad = [line for line in report.lines if line.result.status.value in order]
    for line in sorted(bad, key=lambda line: order[line.result.status.value]):
        status = line.result.status.value
        yield Finding(
            f"{status}: {line.check.id}: {line.check.title}",
            line.result.detail,
            line.result.remedy,
            STYLE[status],
        )


def summary(report: Report) -> str:
    """`38 passed, 1 warning, 2 failed, 4 skipped in 3.2 s`."""
    counts = {status.value: count for status, count in report.counts().items()}
    warnings = "warning" if counts["warn"] == 1 else "warnings"
    words = {"pass": "passed", "warn": warnings, "fail": "failed", "skip": "skipped"}
    parts: Sequence[str] = [f"{counts[key]} {word}" for key, word in words.items() if counts[key]]
    interrupted = ", interrupted" if report.interrupted else ""
    return f"{', '.join(parts) or 'no check'} in {report.seconds:.1f} s{interrupted}"
