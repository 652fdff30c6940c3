"""An `up` that finds nothing to do, against plain Terraform in every stack one after the other; and its memory.

The sandbox is the same for both, and so are the states. Memory is the peak of cali's own process: Terraform's
processes are its children and counted by nobody here.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
GOAL_TIME = 0.6
GOAL_MIB = 150
STACKS = ("network", "eks", "search", "access", "autoscaler")


def run() -> None:
    """Bring an environment up in a sandbox of its own, measure, and take the sandbox away."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        _cali(project, "init", "--yes")
        try:
            started = time.perf_counter()
            _cali(project, "--sandbox", "up", "--yes")
            print(f"up: the first one took {time.perf_counter() - started:.0f} s")
            _compare(project)
            started = time.perf_counter()
            _cali(project, "--sandbox", "down", "--yes")
            print(f"down: {time.perf_counter() - started:.0f} s")
        finally:
            _cali(project, "--sandbox", "sandbox", "stop")


def _compare(project: Path) -> None:
    environ = _surroundings(project)
    pairs = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        # Plain Terraform proves nothing afterwards.
        _cali(project, "--sandbox", "up", "--yes", "--no-verify")
        between = time.perf_counter()
        for stack in STACKS:
            _plain(project / ".cali/sandbox-default/terraform" / stack, environ)
        pairs.append((between - started, time.perf_counter() - between))
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"up, no change: cali {ours:.1f} s, terraform apply -auto-approve in {len(STACKS)} stacks {theirs:.1f} s, "
        f"ratio {ratio:.2f} (goal at most {GOAL_TIME}; median of {ROUNDS} pairs)"
    )
    print(f"memory: peak of cali itself {_peak(project):.0f} MiB in that up (goal under {GOAL_MIB})")


def _cali(project: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "cali_infra", "--project", str(project), "--quiet", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _surroundings(project: Path) -> dict[str, str]:
    """The environment in which plain Terraform reaches the project's sandbox."""
    from cali_infra.sandbox.record import FOLDER, RECORD, SandboxAddress

    address = SandboxAddress.from_json((project / FOLDER / RECORD).read_text())
    return address.surroundings(os.environ)


def _plain(folder: Path, environ: dict[str, str]) -> None:
    subprocess.run(
        ["terraform", "apply", "-auto-approve", "-input=false"],
        cwd=folder,
        env=environ,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _peak(project: Path) -> float:
    """Peak resident memory, in MiB, of a process that runs one more `up` inside itself."""
    script = (
        "import resource, sys\n"
        "from cali_infra.cli import app\n"
        "try:\n"
        "    app.main()\n"
        "except SystemExit as end:\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print(peak * (1 if sys.platform == 'darwin' else 1024))\n"
        "    raise\n"
    )
    arguments = ["--project", str(project), "--quiet", "--sandbox", "up", "--yes"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return int(done.stdout.split()[-1]) / 2**20
