"""Taking turns: a bounded wait that says who is in front, and a lock on a file with a line before it.

It owns how one waits. What the turn is for, and what stands in the file, is its caller's business.
"""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from cali_infra import files
from cali_infra.errors import CaliError, PreconditionError, RunInterruptedError


@dataclass(frozen=True)
class Waiting:
    """How somebody waits: who may end it, who hears of it, and for how many seconds at most.

    `pause` sleeps for some seconds or until `cancel` is set; `jitter` gives numbers from 0 to 1.
    """

    cancel: Event
    tell: Callable[[str], None]
    patience: float = 900.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    pause: Callable[[Event, float], object] = field(default=Event.wait, repr=False)
    jitter: Callable[[], float] = field(default=random.random, repr=False)


@dataclass(frozen=True)
class InFront:
    """Who has the turn: `key` changes when somebody else has it, `who` says it to a person.

    The key is empty where nobody has it at the moment and others have come earlier.
    """

    key: str
    who: str


def take_turn(
    attempt: Callable[[], InFront | None],
    waiting: Waiting,
    *,
    what: str,
    every: float,
    late: Callable[[InFront], CaliError],
) -> None:
    """Try about `every` seconds until `attempt` returns None, telling who is in front whenever that changes.

    The interval does not grow: who has waited long must not find the turn less often than who has just come.
    Raises RunInterruptedError at once when the wait is cancelled, and what `late` makes when patience is at its
    end.
    """
    started, told = waiting.clock(), None
    while True:
        if waiting.cancel.is_set():
            raise RunInterruptedError(f"stopped while waiting for {what}: nothing was changed")
        front = attempt()
        if front is None:
            return
        if told is None or front.key not in ("", told):
            waiting.tell(f"waiting for {what}: {front.who}")
            told = front.key
        left = started + waiting.patience - waiting.clock()
        if left <= 0:
            raise late(front)
        waiting.pause(waiting.cancel, min(left, every * (0.75 + 0.5 * waiting.jitter())))


class FileLock:
    """A lock on a file, given back by the kernel when its holder dies; what is in the file says who holds it.

    Between processes and between threads alike. Nothing on disk is touched by a `take` that does not succeed,
    but for the file itself: the holder may be about to remove its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether the lock is now one's own."""
        while True:
            if self._descriptor is None:
                files.private_folder(self.path.parent)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, files.PRIVATE_FILE)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError as error:
                raise PreconditionError(
                    f"{self.path} cannot be locked: {error}",
                    remedy="keep the project in a folder of a file system that knows flock, such as a local disk",
                ) from error
            if not self.removed():
                return True
            # Whoever held it has removed the file: others may have a new one of that name.
            self.close()

    def removed(self) -> bool:
        """Whether the file that is locked is no longer the one that others find."""
        if self._descriptor is None:
            return True
        try:
            return not os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return True

    def write(self, content: bytes) -> None:
        """Say who holds it."""
        assert self._descriptor is not None
        os.pwrite(self._descriptor, content, 0)
        os.ftruncate(self._descriptor, len(content))

    def read(self) -> bytes:
        """What the holder has written, or the last one that there was; empty where nobody ever held it."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    def close(self) -> None:
        """Give it back, or give up; harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def in_line(lock: Path, now: Callable[[], int] = time.time_ns) -> Iterator[Callable[[], bool]]:
    """Stand in the line before a FileLock; yields whether nobody who still lives has come earlier.

    The kernel does not keep an order among those who try a lock. Each leaves a file in a folder beside it, named
    after the moment of its coming and locked for as long as its process lives.
    """
    descriptor, ticket = _ticket(lock.with_name(lock.name + ".line"), now)
    try:
        yield lambda: not any(_alive(other) for other in _before(ticket))
    finally:
        ticket.unlink(missing_ok=True)
        os.close(descriptor)


def _ticket(folder: Path, now: Callable[[], int]) -> tuple[int, Path]:
    while True:
        descriptor = None
        try:
            descriptor, name = tempfile.mkstemp(prefix=".", dir=files.private_folder(folder))
            # Locked before it gets its name, so that nobody takes it for a dead one's.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return descriptor, Path(name).rename(folder / f"{now():020}-{Path(name).name.removeprefix('.')}")
        except FileNotFoundError:
            # The folder is just being removed, with the whole workspace.
            if descriptor is not None:
                os.close(descriptor)


def _before(ticket: Path) -> list[Path]:
    try:
        there = sorted(entry.name for entry in ticket.parent.iterdir())
    except FileNotFoundError:
        return []
    return [ticket.with_name(name) for name in there if not name.startswith(".") and name < ticket.name]


def _alive(ticket: Path) -> bool:
    """Whether the process that left a ticket still runs; the ticket of one that does not is removed."""
    try:
        descriptor = os.open(ticket, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        ticket.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)
