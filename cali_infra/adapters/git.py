"""The door to Git, which cali asks one thing: does it keep a file that it must not."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path


def tracks(folder: Path, name: str, environ: Mapping[str, str], timeout: float = 10.0) -> bool:
    """Whether Git's index holds the file, so that a line in .gitignore does not help; False without Git."""
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", "--", name],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0
