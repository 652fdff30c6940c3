"""The sandbox's process as its clients see it: start it, find it, ask it, stop it.

Its life is told by a lock on `.cali/sandbox/sandbox.lock` that the server holds until it ends, however it
ends; a process id alone may belong to somebody else by then. The lock is taken here and handed down, so
that of two starters only one ever has a server. What the server does is `server.py`'s.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cali_infra import files
from cali_infra.errors import SandboxError
from cali_infra.sandbox.record import (
    CA,
    FOLDER,
    JOBS,
    KUBECONFIG,
    LOCK,
    LOG,
    PODS,
    RECORD,
    START_LOCK,
    SandboxAddress,
    neutral,
)

START_SECONDS = 60.0
STOP_SECONDS = 10.0
ASK_SECONDS = 20.0
# Another process looks at the lock for a moment only; a server holds it for its life.
_PROBE_SECONDS = 1.0
_STEP = 0.02
_PACKAGES = {
    "moto": "moto",
    "flask": "moto",
    "kmock": "kmock",
    "kubernetes_validate": "kubernetes-validate",
    "grpc": "grpcio",
    "tfplugin_proto": "tfplugin-proto-all",
    "msgpack": "msgpack",
    "cryptography": "cryptography",
}


def folder_of(project_dir: Path, environ: Mapping[str, str]) -> Path:
    """The folder of the project's sandbox, or of the project that CALI_SANDBOX_DIR names.

    Raises SandboxError when that variable names no folder.
    """
    named = environ.get("CALI_SANDBOX_DIR")
    if not named:
        return project_dir / FOLDER
    project = Path(named).expanduser()
    if not project.is_dir():
        raise SandboxError(
            f"CALI_SANDBOX_DIR names {named}, which is no folder",
            remedy="let it name the folder that holds the other project's cali.yaml, or unset it",
        )
    return project.resolve() / FOLDER


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of one folder, running or not. Making the object touches nothing."""

    folder: Path
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def address(self) -> SandboxAddress | None:
        """Where the running sandbox is, or None; the record of one that has died is removed."""
        with self._probe() as held:
            if not held:
                # Nobody can start one while the lock is being looked at.
                self._clear()
                return None
        return self._read()

    def start(
        self, region: str, environ: Mapping[str, str], *, timeout: float = START_SECONDS
    ) -> SandboxAddress:
        """The running sandbox, started if there is none: detached, in a session of its own.

        `environ` is the environment that the server and the credential commands in it get. Raises
        SandboxError when packages are missing or the server does not get ready in `timeout` seconds.
        """
        files.private_folder(self.folder.parent)
        files.private_folder(self.folder)
        with self._starting(timeout):
            running = self.address()
            if running is not None:
                return running
            _check_packages()
            return self._launch(region, environ, timeout)

    def status(self) -> dict[str, Any]:
        """What `cali sandbox status` prints, asked of the process itself. Raises SandboxError."""
        address = self.address()
        if address is None:
            return {
                "running": False,
                "aws_endpoint": None,
                "kubeconfig": None,
                "opensearch_url": None,
                "helm_releases": [],
            }
        import urllib.request

        try:
            # The URL is the record's own, always http on loopback; a proxy must not see it.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(address.control_url, timeout=ASK_SECONDS) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except (OSError, ValueError) as error:
            raise SandboxError(
                f"the sandbox (process {address.pid}) does not answer: {error}",
                remedy=f"see {address.log}, or stop it with: cali sandbox stop",
            ) from None

    def stop(self, *, timeout: float = STOP_SECONDS) -> bool:
        """End the sandbox and forget it; False when there was none.

        It gets `timeout` seconds to end by itself, then it is killed. Raises SandboxError when even that
        does not help.
        """
        address = self.address()
        if address is None:
            if not self._ends(timeout):
                raise SandboxError(
                    "a sandbox runs here without its record",
                    remedy=f"remove the folder {self.folder}: it then ends by itself in a few seconds",
                )
            return False
        # The lock is held, so the process id in the record is still the server's.
        os.kill(address.pid, signal.SIGTERM)
        if not self._ends(timeout):
            try:
                # It leads a group, in which are the commands that it runs for a moment. Containers lead groups of
                # their own: their watcher sees the server's end, and ends them.
                os.killpg(address.pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(address.pid, signal.SIGKILL)
            if not self._ends(timeout):
                raise SandboxError(f"the sandbox (process {address.pid}) does not end")
        _reap(address.pid)
        self._clear()
        return True

    # -- the lock and the record ----------------------------------------------------------------------

    @contextmanager
    def _probe(self) -> Iterator[bool]:
        """Whether a server holds the lock; if not, it cannot be taken while the block lasts."""
        try:
            descriptor = os.open(self.folder / LOCK, os.O_RDWR)
        except (FileNotFoundError, NotADirectoryError):
            yield False
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield True
            else:
                yield False
        finally:
            os.close(descriptor)

    def _held(self) -> bool:
        with self._probe() as held:
            return held

    def _read(self) -> SandboxAddress | None:
        try:
            return SandboxAddress.from_json((self.folder / RECORD).read_text())
        except FileNotFoundError:
            # Held, but not ready yet.
            return None
        except ValueError:
            raise SandboxError(
                f"{self.folder / RECORD} cannot be read, yet a sandbox runs",
                remedy=f"remove the folder {self.folder}: the sandbox then ends by itself in a few seconds",
            ) from None

    def _clear(self) -> None:
        for name in (RECORD, KUBECONFIG, CA):
            (self.folder / name).unlink(missing_ok=True)
        for name in (PODS, JOBS):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _ends(self, timeout: float) -> bool:
        deadline = self.clock() + timeout
        while self._held():
            if self.clock() > deadline:
                return False
            self.sleep(_STEP)
        return True

    @contextmanager
    def _starting(self, timeout: float) -> Iterator[None]:
        """Alone among starters."""
        descriptor = os.open(self.folder / START_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not self._take(descriptor, timeout + _PROBE_SECONDS):
                raise SandboxError(
                    "another cali is starting the sandbox and does not come to an end",
                    remedy=f"see {self.folder / LOG}",
                )
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, timeout: float) -> bool:
        deadline = self.clock() + timeout
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self.clock() > deadline:
                    return False
                self.sleep(_STEP)
            else:
                return True

    # -- the server -----------------------------------------------------------------------------------

    def _launch(self, region: str, environ: Mapping[str, str], timeout: float) -> SandboxAddress:
        lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        ready, tell = os.pipe()
        log = os.open(self.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if not self._take(lock, _PROBE_SECONDS):
                raise SandboxError(
                    "a sandbox runs here that never became ready",
                    remedy=f"see {self.folder / LOG}; remove the folder {self.folder} to end it",
                )
            child = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "cali_infra.sandbox.server"),
                    *("--folder", str(self.folder), "--region", region, "--id", uuid.uuid4().hex),
                    *("--lock", str(lock), "--ready", str(tell)),
                ],
                # Nor are the settings' overrides, passwords among them, any business of a process that stays.
                env={k: v for k, v in neutral(environ).items() if not k.upper().startswith("CALI_")},
                # A working directory would keep a folder busy for as long as the sandbox runs.
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock, tell),
                start_new_session=True,
            )
        finally:
            os.close(lock)
            os.close(tell)
            os.close(log)
        try:
            self._wait_ready(child, ready, timeout)
        except BaseException:
            child.kill()
            child.wait()
            self._clear()
            raise
        finally:
            os.close(ready)
        # The child outlives this process on purpose; Popen would warn about it.
        child.returncode = 0
        address = self._read()
        if address is None:
            raise SandboxError("the sandbox got ready and left no record", remedy=f"see {self.folder / LOG}")
        return address

    def _wait_ready(self, child: subprocess.Popen[bytes], ready: int, timeout: float) -> None:
        readable, _, _ = select.select([ready], [], [], timeout)
        if readable and os.read(ready, 1):
            return
        log = self.folder / LOG
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
        if readable:
            raise SandboxError(f"the sandbox ended while it started:\n{tail}", remedy=f"see {log}")
        raise SandboxError(f"the sandbox was not ready after {timeout:.0f} seconds", remedy=f"see {log}")


def _reap(pid: int) -> None:
    """Take the ended server off the process table, if it was this process that started it."""
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def missing_packages(find: Callable[[str], object | None] = find_spec) -> list[str]:
    """The distributions that the sandbox needs and that are not installed, found without importing any."""
    return sorted({package for module, package in _PACKAGES.items() if find(module) is None})


def _check_packages() -> None:
    if missing := missing_packages():
        raise SandboxError(
            f"the sandbox needs packages that are not installed: {', '.join(missing)}",
            remedy="install cali anew, with them, in its checkout: pipx install --force '.[sandbox]'",
        )
