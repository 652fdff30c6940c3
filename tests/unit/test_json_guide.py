"""docs/json.md: the codes of errors that it lists are those that cali has, each with its exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from cali_infra.errors import CaliError, RefusedError, RunInterruptedError, UsageError
from tests.unit.guides import ROOT, guide, spans

# Which exit code follows, by the branch of the tree; all else is 1. Source: `cli/app.py`.
BRANCHES = {UsageError: 2, RefusedError: 3, RunInterruptedError: 130}
# What `cli/app.py` calls an error that nobody raised on purpose.
BUG = (1, "bug")


def listed() -> list[tuple[int, str]]:
    """Each code in the table, with the exit code of its row."""
    (table,) = [one for one in guide("json.md").tables if "`usage`" in one[0][1]]
    return [(int(row[0].partition(":")[0]), code) for row in table for code in spans(row[1])]


def kinds(root: type[CaliError]) -> Iterator[type[CaliError]]:
    """Every class of errors below this one that is imported."""
    for kind in root.__subclasses__():
        if kind.__module__.startswith("cali_infra."):
            yield kind
            yield from kinds(kind)


def import_all() -> None:
    """Import every module that gives a class a code."""
    for path in sorted((ROOT / "cali_infra").rglob("*.py")):
        if re.search(r"^    code = \"", path.read_text(encoding="utf-8"), re.MULTILINE):
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_every_code_is_listed_once_with_its_exit_code() -> None:
    import_all()
    exits = {
        kind.code: next((code for branch, code in BRANCHES.items() if issubclass(kind, branch)), 1)
        for kind in kinds(CaliError)
    }
    assert "late" in exits
    assert sorted(listed()) == sorted([BUG, *((number, code) for code, number in exits.items())])
