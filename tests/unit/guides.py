"""What the tests of the guides share: a guide in its parts, what it is held against, and cali's own parser."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import typer

from cali_infra.cli.app import COMMANDS, app, load
from cali_infra.cli.context import Options
from cali_infra.ui import UI

ROOT = Path(__file__).parents[2]
# Each guide with its translation.
ACCESS = ("eks-access-guide.md", "eks-access-guide.ko.md")
OPERATIONS = ("operations.md", "operations.ko.md")
PROGRAMS = ("cali", "aws", "kubectl", "helm", "terraform", "curl")

Row = tuple[str, ...]


@dataclass(frozen=True)
class Guide:
    """A guide in its parts. `blocks` are fenced code with its kind, `prose` is all the rest."""

    name: str
    text: str

    @property
    def blocks(self) -> list[tuple[str, str]]:
        return re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @property
    def prose(self) -> str:
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @property
    def spans(self) -> list[str]:
        """The code inside of sentences and tables."""
        return spans(self.prose)

    @property
    def headings(self) -> list[str]:
        return re.findall(r"^#+ .+$", self.prose, re.MULTILINE)

    @property
    def commands(self) -> list[str]:
        """Every command line, wherever it stands."""
        lines = [
            line.strip() for kind, code in self.blocks if kind == "console" for line in code.splitlines()
        ]
        return lines + [span for span in self.spans if span.startswith(tuple(f"{one} " for one in PROGRAMS))]

    @property
    def tables(self) -> list[list[Row]]:
        """The rows of each table, the heads left out."""
        found: list[list[Row]] = []
        for block in re.findall(r"(?:^\|.*\n)+", self.prose, re.MULTILINE):
            rows = [tuple(line.strip("| ").split(" | ")) for line in block.splitlines()]
            assert len({len(row) for row in rows}) == 1, f"{self.name}: a row has other cells: {rows[0]}"
            found.append(rows[2:])
        return found

    def of(self, program: str) -> list[str]:
        """The commands of one program."""
        return [line for line in self.commands if line.startswith(f"{program} ")]


def guide(name: str) -> Guide:
    return Guide(name, (ROOT / "docs" / name).read_text(encoding="utf-8"))


def spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


@cache
def hcl(stack: str) -> str:
    """All of a stack's `*.tf` files."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "terraform" / stack).glob("*.tf"))
    )


def flat(rows: Iterable[Row]) -> list[str]:
    return [text for row in rows for text in row]


def parsed(command: str) -> str:
    """The name of the command in a line that cali's own parser takes; nothing is run.

    Raises typer's own error for a line that it does not take.
    """
    words = shlex.split(command)[1:]
    if words == ["--version"]:
        return words[0]
    place = next((index for index, word in enumerate(words) if word in COMMANDS), None)
    assert place is not None, f"{command}: cali has no such command"
    name = words[place]
    silent = io.StringIO()
    ui = UI(
        stdin=silent,
        stdout=silent,
        stderr=silent,
        environ={},
        clock=lambda: 0.0,
        now=lambda: datetime(2026, 11, 23, 12, 0),
    )
    options = Options(ui=ui, environ={}, project=Path())
    # Both parse on their own; the callbacks that would run something are never called.
    typer.main.get_command(app).make_context("cali", words[: place + 1], obj=options)
    family, rest = load(name), words[place + 1 :]
    context = family.make_context(name, rest, obj=options)
    if hasattr(family, "commands"):
        member, command_of_it, left = family.resolve_command(context, rest)
        command_of_it.make_context(member, left, parent=context)
    return name
