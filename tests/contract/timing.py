"""The time of a case: real at a real cluster, and at the stand-in one that passes only while everybody sleeps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

# Nobody else acts for this long, in seconds: the first of the sleepers may wake.
_QUIET = 0.01


class Time(Protocol):
    """A clock, a sleep, and something that happens at its hour. `slept` holds every sleep, in seconds."""

    slept: list[float]

    def clock(self) -> float:
        """Seconds since the case began."""

    def sleep(self, seconds: float) -> None:
        """Return when so many seconds have passed."""

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something when the clock shows `seconds`."""

    def stop(self) -> None:
        """Nothing happens any more."""


class RealTime:
    """The machine's own."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._started = time.monotonic()
        self._timers: list[threading.Timer] = []

    def clock(self) -> float:
        return time.monotonic() - self._started

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        time.sleep(seconds)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(max(0.0, seconds - self.clock()), action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
            timer.join()


class VirtualTime:
    """Twenty seconds in no time, also for many threads: the first of the sleepers to wake moves the clock on."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._now = 0.0
        self._moved = threading.Condition()
        self._wakes: list[float] = []
        self._due: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        with self._moved:
            return self._now

    def sleep(self, seconds: float) -> None:
        with self._moved:
            self.slept.append(seconds)
            wake = self._now + seconds
            self._wakes.append(wake)
            self._moved.notify_all()
            while self._now < wake:
                if wake > min(self._wakes):
                    self._moved.wait()
                elif not self._moved.wait(_QUIET) and wake == min(self._wakes):
                    self._move(wake)
            self._wakes.remove(wake)
            self._moved.notify_all()

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        with self._moved:
            self._due.append((seconds, action))

    def stop(self) -> None:
        with self._moved:
            self._due.clear()

    def _move(self, to: float) -> None:
        for due in sorted(self._due, key=lambda item: item[0]):
            if due[0] <= to:
                self._due.remove(due)
                self._now = max(self._now, due[0])
                due[1]()
        self._now = max(self._now, to)
