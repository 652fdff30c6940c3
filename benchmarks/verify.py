"""`cali verify` beside its slowest check, and beside the same checks one after the other.

Those are the checks of a run without options. All are asked of one sandbox, each way in a process of its own. The
quick part, which `up` ends with, is measured alone too: with it goes no Terraform, whose plans take as long as all
the rest.

The wall time is that of a run, from its first check until all is put down: with the import of the clients, the
connections and the opening of the stacks, which the first check that needs them does; without the start of Python
and the reading of the settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks.rehearsal import cali

ROUNDS = 3
GOAL = 1.0


def run() -> None:
    """Bring an environment up in a sandbox of its own, measure, and take the sandbox away."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        cali(project, "init", "--yes")
        try:
            cali(project, "--sandbox", "up", "--yes")
            for part in ("quick", "whole"):
                _compare(project, part)
        finally:
            cali(project, "--sandbox", "sandbox", "stop")


def _compare(project: Path, part: str) -> None:
    rounds = [
        (_measured(project, part, "together"), _measured(project, part, "in a row")) for _ in range(ROUNDS)
    ]
    # The round in the middle by its wall time.
    together, row = sorted(rounds, key=lambda pair: float(pair[0]["wall"]))[len(rounds) // 2]
    more = together["wall"] - together["slowest"]
    print(
        f"verify, {part}: {together['checks']} checks in {together['wall']:.1f} s, the slowest "
        f"({together['name']}) {together['slowest']:.1f} s, so {more:.1f} s more (goal at most {GOAL:.0f}); "
        f"{row['checks']} one after the other {row['wall']:.1f} s, "
        f"{row['wall'] / together['wall']:.1f} times as long"
    )


def _measured(project: Path, part: str, how: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.verify", str(project), part, how]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(project: Path, part: str, how: str) -> dict[str, Any]:
    """In the process that is measured: opened, but with nothing asked and no client imported yet."""
    from datetime import UTC, datetime

    from cali_infra.cli.context import Options, open_environment
    from cali_infra.core.platform import open_platform
    from cali_infra.ui import UI
    from cali_infra.verify.checks import Status
    from cali_infra.verify.context import Context, Facts
    from cali_infra.verify.families import CHECKS
    from cali_infra.verify.runner import Runner
    from cali_infra.verify.selection import choose
    from cali_infra.verify.subject import of_platform

    ui = UI(
        stdin=sys.stdin,
        stdout=sys.stderr,
        stderr=sys.stderr,
        environ=os.environ,
        clock=time.monotonic,
        now=datetime.now,
        quiet=True,
    )
    environment = open_environment(Options(ui, os.environ, project, sandbox=True))
    platform = open_platform(
        environment.target,
        environment.settings,
        environment.secrets,
        redact=environment.redact,
        now=datetime.now(UTC),
        clock=time.monotonic,
    )
    subject = of_platform(platform)
    chosen = tuple(check for check in choose(CHECKS) if check.quick or part == "whole")
    if how == "together":
        report = Runner(subject, Event()).run(chosen)
        slowest = max(report.lines, key=lambda line: line.result.seconds)
        return {
            "checks": sum(not line.result.cause for line in report.lines),
            "wall": report.seconds,
            "slowest": slowest.result.seconds,
            "name": slowest.check.id,
        }
    facts, good, asked, started = Facts(Event()), set[str](), 0, time.monotonic()
    for check in chosen:
        if set(check.needs) <= good:
            context = Context(subject, facts, Event(), time.monotonic() + check.timeout)
            result = check.ask(context)
            context.put_down()
            asked += 1
            good |= {check.id} if result.status in (Status.PASS, Status.WARN) else set()
    facts.close()
    return {"checks": asked, "wall": time.monotonic() - started}


if __name__ == "__main__":
    where, which, way = sys.argv[1:]
    print(json.dumps(_measure(Path(where), which, way)))
