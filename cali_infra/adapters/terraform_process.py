"""One Terraform process: started, drained, interrupted, and never left behind.

It owns the process group, both pipes and the signals. What the lines mean is the caller's business; the lines
are handed over in the thread that called, so a callback needs no lock of its own and its exception is the
caller's.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

Line = Callable[[str], None]

# How long Terraform may take to put things down after an interrupt that nobody waits for, in seconds.
GRACE = 60.0
# How often the cancel event is looked at, in seconds; lines and the process's end arrive at once.
_TICK = 0.1


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal that killed it), and why it was made to."""

    exit_code: int
    interrupted: bool = False
    timed_out: bool = False


@dataclass(frozen=True)
class _Out:
    line: str


@dataclass(frozen=True)
class _Err:
    line: str


class _Exit:
    pass


_Item = _Out | _Err | _Exit


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
    take as long as it needs: what is in flight has to be written to the state. After a timeout or an
    exception in a callback it is killed when `grace` seconds were not enough. Raises FileNotFoundError or
    PermissionError when the command cannot be started.
    """
    process = subprocess.Popen(
        list(arguments),
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A group of its own: a Ctrl-C in the terminal must reach Terraform once, through us, not twice.
        process_group=0,
        # Plans and states are written 0644 otherwise, and they hold every secret in clear.
        umask=0o077,
        # Python ignores SIGPIPE, and the child is to do so as well: when cali itself is killed, Terraform's
        # next line would kill it in the middle of an apply, with the lock held and the state unwritten.
        restore_signals=False,
    )
    items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    readers = [
        _thread(_drain, process.stdout, lambda line: items.put(_Out(line))),
        _thread(_drain, process.stderr, lambda line: items.put(_Err(line))),
    ]
    _thread(_wait, process, lambda: items.put(_Exit()))
    try:
        ended = _attend(process, items, on_out, on_err, cancel, on_cancel, timeout, grace)
    except BaseException:
        _end(process, grace)
        raise
    finally:
        if process.returncode != 0 and process.returncode is not None and process.returncode < 0:
            # The plugins of a killed Terraform go on changing the cloud, and nobody records what they do.
            _kill_group(process)
        for reader in readers:
            reader.join(2)
    _hand_over(items, on_out, on_err)
    return ended


def _attend(
    process: subprocess.Popen[bytes],
    items: queue.SimpleQueue[_Item],
    on_out: Line,
    on_err: Line,
    cancel: threading.Event | None,
    on_cancel: Callable[[], None],
    timeout: float | None,
    grace: float,
) -> Ended:
    deadline = _Deadline(timeout)
    interrupted = timed_out = False
    while True:
        if cancel is not None and cancel.is_set() and not interrupted and not timed_out:
            interrupted = True
            _interrupt(process)
            on_cancel()
        if deadline.passed() and not interrupted and not timed_out:
            timed_out = True
            _end(process, grace)
        try:
            item = items.get(timeout=_TICK)
        except queue.Empty:
            continue
        if isinstance(item, _Exit):
            return Ended(process.returncode, interrupted, timed_out)
        (on_out if isinstance(item, _Out) else on_err)(item.line)


class _Deadline:
    def __init__(self, seconds: float | None) -> None:
        from time import monotonic

        self._now = monotonic
        self._at = None if seconds is None else monotonic() + seconds

    def passed(self) -> bool:
        return self._at is not None and self._now() >= self._at


def _hand_over(items: queue.SimpleQueue[_Item], on_out: Line, on_err: Line) -> None:
    """What the readers found after the process's end was seen."""
    with suppress(queue.Empty):
        while True:
            item = items.get_nowait()
            if isinstance(item, _Out):
                on_out(item.line)
            elif isinstance(item, _Err):
                on_err(item.line)


def _thread(target: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True, name="terraform-io")
    thread.start()
    return thread


def _drain(pipe: IO[bytes], put: Line) -> None:
    with pipe:
        for line in pipe:
            put(line.decode("utf-8", "replace").rstrip("\r\n"))


def _wait(process: subprocess.Popen[bytes], ended: Callable[[], None]) -> None:
    process.wait()
    ended()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """One SIGINT to Terraform itself. Its plugins ignore the signal and are told by Terraform; the commands
    that a provider or a provisioner runs would die of it in the middle of their work.
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
    # The leader's id is the group's for as long as one member lives, also when the leader is gone.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
