"""Who ends the containers of a sandbox that was killed: each leads a session of its own, out of its reach.

A process beside the sandbox that reads from it which groups run. The pipe between them closes when the sandbox
ends, however it does; then what is still on the list is killed, and the folders that hold its Secrets are removed.
It is run as a script, without the packages of the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path


class Watcher:
    """The sandbox's end of it, made before the first container; `folders` are removed when all is over."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *map(str, folders)],
            # A working directory would keep a folder busy.
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Whoever kills the sandbox's group does not kill it.
            start_new_session=True,
        )

    def add(self, group: int) -> None:
        """A process group runs."""
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """A process group has ended."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """End it, and remove the folders; whatever runs by then is killed."""
        assert self._process.stdin
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        with self._lock:
            if self._process.stdin.closed:
                return
            # Should somebody have killed it, the sandbox still ends in order what it runs.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()


def watch(lines: Iterable[str], folders: Sequence[str]) -> None:
    """Follow the list until it ends, kill what is on it, and remove the folders."""
    groups: set[int] = set()
    for line in lines:
        number = int(line[1:])
        if line[0] == "+":
            groups.add(number)
        else:
            groups.discard(number)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    watch(sys.stdin, sys.argv[1:])
