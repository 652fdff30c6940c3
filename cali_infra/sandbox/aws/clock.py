"""The clock of EventBridge Scheduler, which a test may move.

It owns the distance between that clock and the real one. Only the scheduler lives by it: tokens, sessions
and everything that the stand-ins stamp stay on real time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """The real time of day plus what it was moved by; whoever listens is told of each move."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._ahead = timedelta()
        self._moved: Callable[[], None] = lambda: None

    def __call__(self) -> datetime:
        """The time now, in UTC."""
        return self._now().astimezone(UTC) + self.ahead

    @property
    def ahead(self) -> timedelta:
        """How far it is ahead of the real time, less than nothing when it is behind."""
        with self._lock:
            return self._ahead

    def listen(self, moved: Callable[[], None]) -> None:
        """Call `moved` after each move, before whoever moved it goes on."""
        self._moved = moved

    def advance(self, seconds: float) -> None:
        """Move it forward; raises ValueError for less than nothing."""
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"a clock is advanced by seconds, 0 or more, not by {seconds}")
        with self._lock:
            self._ahead += timedelta(seconds=seconds)
        self._moved()

    def set(self, moment: datetime) -> None:
        """Set it to a moment; raises ValueError for one that names no time zone."""
        if moment.tzinfo is None:
            raise ValueError(f"{moment.isoformat()} names no time zone; write it as 2027-01-31T00:00:00Z")
        with self._lock:
            self._ahead = moment.astimezone(UTC) - self._now().astimezone(UTC)
        self._moved()

    def reset(self) -> None:
        """Back to the real time."""
        with self._lock:
            self._ahead = timedelta()
        self._moved()
