"""An `up` that finds nothing to do, against plain Terraform in every stack one after the other; and its memory.

The sandbox is the same for both, and so are the states. Memory is the peak of cali's own process: Terraform's
processes are its children and counted by nobody here.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rehearsal import cali, surroundings
from cali_infra.core.stages import STAGES, Kind

ROUNDS = 3
GOAL_TIME = 0.6
GOAL_MIB = 150
STACKS = tuple(stage.name for stage in STAGES if stage.kind is Kind.TERRAFORM)


def run() -> None:
    """Bring an environment up in a sandbox of its own, measure, and take the sandbox away."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        cali(project, "init", "--yes")
        try:
            started = time.perf_counter()
            cali(project, "--sandbox", "up", "--yes")
            print(f"up: the first one took {time.perf_counter() - started:.0f} s")
            _compare(project)
            started = time.perf_counter()
            cali(project, "--sandbox", "down", "--yes")
            print(f"down: {time.perf_counter() - started:.0f} s")
        finally:
            cali(project, "--sandbox", "sandbox", "stop")


def _compare(project: Path) -> None:
    environ = surroundings(project)
    pairs = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        # Plain Terraform proves nothing afterwards.
        cali(project, "--sandbox", "up", "--yes", "--no-verify")
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
