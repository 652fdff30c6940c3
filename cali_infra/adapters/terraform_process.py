"""One Terraform process: started, listened to, interrupted, and never left half dead.

It owns the process group, the two streams and the signals; what the lines mean is the caller's business.
Lines are handed over in the thread that called, so a callback needs no lock and its exception is the caller's.

The streams are files without a name, not pipes. Nothing has to be drained, so nothing can block. And a pipe
would break when cali is killed: Terraform dies of SIGPIPE at its next line, whatever the signal's disposition
(Go installs its own), in the middle of an apply, with the lock held and the state unwritten. Listened to
through a file it goes on, finishes, writes the state and releases the lock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Protocol

Line = Callable[[str], None]

# How long Terraform may take to put things down when nobody can wait for it any longer, in seconds.
GRACE = 60.0
# How often the streams and the cancel event are looked at, in seconds; the process's end is seen at once.
_TICK = 0.05
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal that killed it), and why it was made to."""

    exit_code: int
    interrupted: bool = False
    timed_out: bool = False


class Runner(Protocol):
    """`run`, or what a test hands in for it."""

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        on_out: Line,
        on_err: Line,
        cancel: threading.Event | None = None,
        on_cancel: Callable[[], None] = ...,
        timeout: float | None = None,
    ) -> Ended: ...


def run(
    arguments: Sequence[str],
    *,
    folder: Path,
    environ: Mapping[str, str],
    on_out: Line,
    on_err: Line,
    cancel: threading.Event | None = None,
    on_cancel: Callable[[], None] = lambda: None,
    timeout: float | None = None,
    grace: float = GRACE,
) -> Ended:
    """Run a command to its end, handing over each line of stdout and stderr without its line break.

    When `cancel` is set, or `timeout` seconds have passed, the process gets one SIGINT. After a cancel it may
    take as long as it needs: what is in flight has to get into the state. After a timeout or an exception in
    a callback it is killed, with all that it started, when `grace` seconds were not enough. Raises
    FileNotFoundError or PermissionError when the command cannot be started.
    """
    with _Stream(on_out) as out, _Stream(on_err) as err:
        process = subprocess.Popen(
            list(arguments),
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=out.descriptor,
            stderr=err.descriptor,
            # A group of its own: a Ctrl-C in the terminal must reach Terraform once, through us, not twice.
            process_group=0,
            # Plans and states are written 0644 otherwise, and they hold every secret in clear.
            umask=0o077,
        )
        try:
            ended = _attend(process, (out, err), cancel, on_cancel, timeout, grace)
        except BaseException:
            _end(process, grace)
            raise
        finally:
            if process.returncode is not None and process.returncode < 0:
                # The plugins of a killed Terraform go on changing the cloud, and nobody records what they do.
                _kill_group(process)
        out.close_line()
        err.close_line()
    return ended


def _attend(
    process: subprocess.Popen[bytes],
    streams: tuple[_Stream, _Stream],
    cancel: threading.Event | None,
    on_cancel: Callable[[], None],
    timeout: float | None,
    grace: float,
) -> Ended:
    over = threading.Event()
    threading.Thread(target=_wait, args=(process, over), daemon=True, name="terraform-wait").start()
    deadline = None if timeout is None else monotonic() + timeout
    interrupted = timed_out = False
    while True:
        last = over.wait(_TICK)
        for stream in streams:
            stream.hand_over()
        if last:
            return Ended(process.returncode, interrupted, timed_out)
        if interrupted or timed_out:
            continue
        if cancel is not None and cancel.is_set():
            interrupted = True
            _interrupt(process)
            on_cancel()
        elif deadline is not None and monotonic() > deadline:
            timed_out = True
            _end(process, grace)


def _wait(process: subprocess.Popen[bytes], over: threading.Event) -> None:
    process.wait()
    over.set()


class _Stream:
    """A file without a name that a process writes and we read behind it, line by line."""

    def __init__(self, put: Line) -> None:
        self._put = put
        self._read = 0
        self._rest = b""
        self.descriptor = _unnamed_file()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    def hand_over(self) -> None:
        """The lines that came since the last time."""
        # pread: the process writes at the file's own position, which must not be moved.
        while chunk := os.pread(self.descriptor, _CHUNK, self._read):
            self._read += len(chunk)
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._put(_text(line))

    def close_line(self) -> None:
        """A last line without a line break."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._put(_text(rest))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").removesuffix("\r")


def _unnamed_file() -> int:
    """In memory on Linux, so that a pulled state touches no disk; elsewhere an unlinked temporary file."""
    if sys.platform == "linux":
        return os.memfd_create("terraform", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """One SIGINT, to Terraform alone: it stops its plugins and provisioners by itself.

    To the whole group it would kill what a provider runs at that moment, such as `cali token` or a
    `credential_process`, and the run would end with an error about credentials.
    """
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Interrupt, wait for `grace` seconds, kill the group."""
    _interrupt(process)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # The leader's id stays the group's for as long as one member lives, also when the leader is gone.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
