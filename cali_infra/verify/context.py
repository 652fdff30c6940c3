"""What a check is handed: the platform, what the checks of a run share, and how it puts down what it holds.

A fact is asked once, by whoever comes first, and its error is everybody's who needs it. `Facts` lives as long as
one round of checks: the next round asks anew.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cali_infra.errors import OperationError, RunInterruptedError

if TYPE_CHECKING:
    from cali_infra.adapters.kubernetes import Kubernetes
    from cali_infra.verify.subject import Stack, Subject

T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(UTC)


def random_suffix() -> str:
    """Six random hexadecimal digits."""
    return secrets.token_hex(3)


class LateError(OperationError):
    """What a check waits for does not come in the check's own time."""

    code = "late"


class Facts:
    """What the checks of one round share. `cancel` is set when the whole round is interrupted."""

    def __init__(self, cancel: Event) -> None:
        self.cancel = cancel
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Any]] = {}
        self._held = ExitStack()

    def get(self, name: str, ask: Callable[[], T], patience: float) -> T:
        """The answer to a question, asked now if nobody did before.

        Raises what asking raised, and LateError when somebody else's asking takes longer than `patience` seconds.
        """
        with self._lock:
            mine = name not in self._asked
            future = self._asked.setdefault(name, Future())
        if mine:
            try:
                future.set_result(ask())
            except BaseException as error:
                future.set_exception(error)
                raise
        try:
            return cast(T, future.result(timeout=patience))
        except TimeoutError as error:
            if future.done():
                raise
            raise LateError(f"{name}: no answer within {patience:.0f} seconds") from error

    def hold(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context for as long as the round lasts."""
        with self._lock:
            return self._held.enter_context(manager)

    def close(self) -> None:
        """Leave what is held."""
        self._held.close()


@dataclass(frozen=True)
class Left:
    """What could not be put down, in words, and what to type about it."""

    what: str
    remedy: str = ""


@dataclass(frozen=True)
class _Step:
    what: str
    undo: Callable[[], None]
    remedy: str


class Undoing:
    """What a check has to put down, the last first: each is done once, by whoever comes to it."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._doing: list[_Step] = []
        self._failed: list[Left] = []
        self._lock = threading.Lock()

    def add(self, what: str, undo: Callable[[], None], remedy: str = "") -> None:
        with self._lock:
            self._steps.append(_Step(what, undo, remedy))

    def __bool__(self) -> bool:
        """Whether something is being put down, or waits for it."""
        with self._lock:
            return bool(self._steps or self._doing)

    def left(self) -> list[Left]:
        """What could not be put down, and what has not been so far."""
        with self._lock:
            late = [*self._doing, *reversed(self._steps)]
            return [
                *self._failed,
                *(Left(f"{step.what} (not put down in time)", step.remedy) for step in late),
            ]

    def run(self) -> None:
        """Do it all; a step that fails leaves the others to be done."""
        while True:
            with self._lock:
                if not self._steps:
                    return
                step = self._steps.pop()
                self._doing.append(step)
            left = None
            try:
                step.undo()
            except Exception as error:
                left = Left(f"{step.what} ({error})", str(getattr(error, "remedy", "")) or step.remedy)
            with self._lock:
                self._doing.remove(step)
                self._failed += [left] if left else []


@dataclass(frozen=True)
class Context:
    """What one check works with. `cancel` is set when it is to stop: the run was interrupted, or its time is over.

    `clock` counts seconds and `deadline` is the moment on it at which the check is given up. `suffix` makes
    the random part of a name.
    """

    subject: Subject
    facts: Facts
    cancel: Event
    deadline: float
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = _now
    suffix: Callable[[], str] = random_suffix
    undoing: Undoing = field(default_factory=Undoing)

    def fact(self, name: str, ask: Callable[[], T]) -> T:
        """The answer to a question that other checks may ask too. Raises what asking raises."""
        return self.facts.get(name, ask, self.left())

    def left(self) -> float:
        """Seconds until this check is given up."""
        return max(0.0, self.deadline - self.clock())

    def defer(self, what: str, undo: Callable[[], None], remedy: str = "") -> None:
        """Have something put down when the check ends, in whatever way: also after Ctrl-C, and when it hangs.

        Say it before it is made, so that nothing made is ever unknown: to undo what was never made must do no harm.
        `remedy` is what to type where it stays. Raises RunInterruptedError when the check is to stop.
        """
        if self.cancel.is_set():
            raise RunInterruptedError("interrupted before it ended")
        self.undoing.add(what, undo, remedy)

    def put_down(self) -> None:
        """Put down now what was deferred so far. What stays makes the check fail, whatever it says itself."""
        self.undoing.run()

    # -- facts that every family asks for ---------------------------------------------------------------

    def stack(self, name: str) -> Stack:
        """A Terraform stack, opened."""
        return self.fact(f"stack {name}", lambda: self.subject.stack(name, self.facts.cancel))

    def output(self, stack: str, name: str) -> str:
        """An output of a stack as text; empty where it was never applied."""
        return str(self.stack(stack).outputs().get(name) or "")

    def kubernetes(self) -> Kubernetes:
        """The cluster."""

        def connect() -> Kubernetes:
            self.clients()
            # Its address is an output.
            self.stack("eks")
            return self.subject.kubernetes()

        return self.fact("the cluster's API", connect)

    def clients(self) -> None:
        """Import the packages that speak to a cluster and to a domain, in one thread.

        Both import themselves in circles: a thread that comes in the middle would see half a module.
        """

        def imported() -> None:
            for package in ("kubernetes.client", "opensearchpy", "tenacity"):
                import_module(package)

        self.fact("the clients", imported)
