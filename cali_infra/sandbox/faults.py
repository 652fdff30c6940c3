"""Trouble on demand: the next requests are throttled, refused or cut, as a test wishes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

THROTTLE = 429
UNAVAILABLE = 503
CUT = 0
LOST = -1


@dataclass
class _Fault:
    status: int
    left: int
    method: str
    path: str
    retry_after: int


class Faults:
    """What goes wrong next; safe to set from any thread while the server runs."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._unreachable_until = 0.0

    def answer(
        self, status: int, times: int = 1, *, method: str = "", path: str = "", retry_after: int = 1
    ) -> None:
        """The next `times` requests of this method whose path contains `path` get `status` (429, 503, 500)."""
        with self._lock:
            self._faults.append(_Fault(status, times, method, path, retry_after))

    def cut(self, times: int = 1, *, method: str = "", path: str = "") -> None:
        """The connection of the next `times` such requests is cut without an answer."""
        self.answer(CUT, times, method=method, path=path)

    def lose_answer(self, times: int = 1, *, method: str = "", path: str = "") -> None:
        """The next `times` such requests are served, and the connection is cut in the middle of the answer."""
        self.answer(LOST, times, method=method, path=path)

    def unreachable(self, seconds: float) -> None:
        """Every connection is cut for this long; 0 ends it."""
        with self._lock:
            self._unreachable_until = self._monotonic() + seconds

    def clear(self) -> None:
        """No more trouble."""
        with self._lock:
            self._faults.clear()
            self._unreachable_until = 0.0

    def pending(self) -> bool:
        """Whether there is trouble left that no request has met yet."""
        with self._lock:
            return bool(self._faults) or self._monotonic() < self._unreachable_until

    def take(self, method: str, path: str) -> tuple[int, int] | None:
        """The status (CUT for none, LOST for half of its own) and Retry-After seconds of this request, or None."""
        with self._lock:
            if self._unreachable_until and self._monotonic() < self._unreachable_until:
                return CUT, 0
            for fault in self._faults:
                if fault.method in ("", method) and fault.path in path:
                    fault.left -= 1
                    if fault.left <= 0:
                        self._faults.remove(fault)
                    return fault.status, fault.retry_after
        return None
