"""A project of a benchmark's own, in a sandbox that nobody else uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def cali(project: Path, *arguments: str) -> None:
    """Run cali in the project, without a word on stdout."""
    command = [sys.executable, "-m", "cali_infra", "--project", str(project), "--quiet", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def surroundings(project: Path) -> dict[str, str]:
    """The environment in which plain Terraform and boto3 reach the project's sandbox."""
    from cali_infra.sandbox.record import FOLDER, RECORD, SandboxAddress

    address = SandboxAddress.from_json((project / FOLDER / RECORD).read_text())
    return address.surroundings(os.environ)
