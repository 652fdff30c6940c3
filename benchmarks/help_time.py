"""`cali --help` against `--help` of a Typer app with as many commands that do nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 15
GOAL = 1.25


def run() -> None:
    """Take turns, so that a machine that slows down slows both."""
    from cali_infra.cli.app import COMMANDS

    commands = len(COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(_empty_app(commands))
        pairs = [
            (_seconds("-m", "cali_infra", "--help"), _seconds(str(empty), "--help")) for _ in range(ROUNDS)
        ]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"help: cali {ours * 1000:.0f} ms, empty Typer app with {commands} commands {theirs * 1000:.0f} ms, "
        f"ratio {ratio:.2f} (goal at most {GOAL}; median of {ROUNDS} pairs)"
    )


def _empty_app(commands: int) -> str:
    lines = ["import typer", "app = typer.Typer(add_completion=False)"]
    for number in range(commands):
        lines += ["@app.command()", f"def command{number}() -> None:", '    """Does nothing."""']
    return "\n".join([*lines, "app()", ""])


def _seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
