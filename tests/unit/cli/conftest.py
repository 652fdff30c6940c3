"""The `cali` fixture: one invocation in this process, with its exit code and what it printed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cali_infra.cli.app import run
from cali_infra.ui import UI


class Stream(io.StringIO):
    """Text in memory that may claim to be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@dataclass(frozen=True)
class Ran:
    """How an invocation ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Cali = Callable[..., Ran]


@pytest.fixture
def cali(tmp_path: Path) -> Cali:
    """`cali(*arguments, answers=None, environ=None)`: runs in `tmp_path`; answers make it a terminal."""

    def invoke(*arguments: str, answers: str | None = None, environ: dict[str, str] | None = None) -> Ran:
        terminal = answers is not None
        stdin = Stream(answers or "", terminal=terminal)
        stdout, stderr = Stream(), Stream(terminal=terminal)
        ui = UI(
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            environ={"TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"},
            clock=lambda: 0.0,
            now=lambda: datetime(2026, 11, 23, 12, 0),
        )
        code = run(arguments, ui, environ or {}, tmp_path)
        return Ran(code, stdout.getvalue(), stderr.getvalue())

    return invoke
