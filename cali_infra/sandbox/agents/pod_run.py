"""One pod's containers as processes of this machine, from their start to the last line that they write.

It owns the processes and the pod's status while they run. What they find around them is `pod_files.py`'s; which pod
is run is `jobs.py`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from cali_infra.sandbox.agents.watcher import Watcher
from cali_infra.sandbox.kubernetes.logs import LogLine

Obj = Mapping[str, Any]
Status = dict[str, Any]
# The container runtime's code of a container whose command it could not start.
_NO_START = 128


@dataclass(frozen=True)
class Command:
    """What one container runs: `argv` as it is started, and its whole environment."""

    container: str
    argv: Sequence[str]
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Doors:
    """What a run says to the cluster: lines of a container, and a change of the pod's status, False once it is
    gone."""

    log: Callable[[str, Sequence[LogLine]], None]
    status: Callable[[Callable[[Status], Status]], bool]
    now: Callable[[], datetime]
    nanoseconds: Callable[[], int]


class PodRun:
    """The run of one pod in threads of its own; `kill` ends it at any time, `watcher` when nobody is left to."""

    def __init__(
        self, uid: str, commands: Sequence[Command], folder: Path, doors: Doors, watcher: Watcher
    ) -> None:
        self._uid = uid
        self._commands = commands
        self._folder = folder
        self._doors = doors
        self._watcher = watcher
        self._lock = threading.Lock()
        self._killed = False
        self._children: list[subprocess.Popen[bytes]] = []
        self._ended: dict[str, Status] = {}

    def start(self) -> None:
        """Start every container; returns at once."""
        for command in self._commands:
            threading.Thread(
                target=self._run, args=(command,), name=f"container {command.container}", daemon=True
            ).start()

    def kill(self) -> None:
        """End what still runs, with all that it has started; nothing more is said of it."""
        with self._lock:
            self._killed = True
            children = list(self._children)
        for child in children:
            if child.poll() is None:
                # It leads a group of its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
        for child in children:
            child.wait()
            self._watcher.remove(child.pid)

    def _run(self, command: Command) -> None:
        started = self._time()
        child = self._begin(command, started)
        if child is None:
            return
        assert child.stdout and child.stderr
        self._say(command.container, {"running": {"startedAt": started}})
        readers = [
            threading.Thread(target=self._read, args=(command.container, name, stream), daemon=True)
            for name, stream in (("stdout", child.stdout), ("stderr", child.stderr))
        ]
        for reader in readers:
            reader.start()
        code = child.wait()
        # Whoever it left behind goes with it: a container ends with its first process.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        self._watcher.remove(child.pid)
        for reader in readers:
            reader.join()
        code = code if code >= 0 else 128 - code
        self._end(
            command.container,
            {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": started},
        )

    def _begin(self, command: Command, started: str) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._killed:
                return None
            try:
                child = subprocess.Popen(
                    command.argv,
                    env=dict(command.environ),
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                message = f'exec: "{command.argv[0]}": {(error.strerror or "").lower()}'
            else:
                self._watcher.add(child.pid)
                self._children.append(child)
                return child
        self._end(
            command.container,
            {
                "exitCode": _NO_START,
                "reason": "StartError",
                "message": message,
                "startedAt": "1970-01-01T00:00:00Z",
            },
        )
        return None

    def _read(self, container: str, name: str, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip("\r\n")
            with contextlib.suppress(LookupError):
                self._doors.log(container, [LogLine(self._doors.nanoseconds(), name, text)])
        stream.close()

    def _end(self, container: str, terminated: Status) -> None:
        self._say(container, {"terminated": {**terminated, "finishedAt": self._time()}})

    def _say(self, container: str, state: Status) -> None:
        with self._lock:
            if self._killed:
                return
            if "terminated" in state:
                self._ended[container] = state["terminated"]
            over = len(self._ended) == len(self._commands)
            failed = any(each["exitCode"] for each in self._ended.values())
        phase = ("Failed" if failed else "Succeeded") if over else "Running"
        with contextlib.suppress(LookupError):
            self._doors.status(
                lambda status: _with_state(status, self._uid, container, state, phase, self._time())
            )

    def _time(self) -> str:
        return f"{self._doors.now().astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _with_state(status: Status, uid: str, container: str, state: Status, phase: str, now: str) -> Status:
    """A pod's status with one container's state, and the phase and the conditions that follow."""
    runs = "running" in state
    identifier = hashlib.sha256(f"{uid}/{container}".encode()).hexdigest()
    own = {"state": state, "ready": runs, "started": runs, "containerID": f"containerd://{identifier}"}
    containers = [
        {**item, **own} if item["name"] == container else item
        for item in status.get("containerStatuses") or ()
    ]
    ready = all(item.get("ready") for item in containers)
    conditions = []
    for item in status.get("conditions") or ():
        if item["type"] in ("Ready", "ContainersReady"):
            changed: Status = {"type": item["type"], "status": str(ready), "lastTransitionTime": now}
            if not ready:
                changed["reason"] = "ContainersNotReady" if phase == "Running" else "PodCompleted"
            if item["status"] == changed["status"] and item.get("reason") == changed.get("reason"):
                changed = item
            conditions.append(changed)
        else:
            conditions.append(item)
    return {**status, "phase": phase, "containerStatuses": containers, "conditions": conditions}
