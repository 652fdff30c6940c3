"""What the containers of a cluster have written: lines with the container runtime's time.

`pods/log` gives their text, an agent that ships them takes the lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# A container by namespace, pod and its own name.
Container = tuple[str, str, str]


@dataclass(frozen=True)
class LogLine:
    """One line of a container; `at` is the runtime's time in nanoseconds since 1970, `stream` stdout or stderr."""

    at: int
    stream: str
    text: str


class Logs:
    """The logs of one cluster's containers."""

    def __init__(self) -> None:
        self._lines: dict[Container, tuple[LogLine, ...]] = {}

    def replace(self, container: Container, lines: Sequence[LogLine]) -> None:
        """Make a container's log these lines."""
        self._lines[container] = tuple(lines)

    def write(self, container: Container, lines: Sequence[LogLine]) -> None:
        """Add lines to a container's log."""
        self._lines[container] = (*self.lines(container), *lines)

    def lines(self, container: Container) -> tuple[LogLine, ...]:
        """What a container has written so far, the oldest line first."""
        return self._lines.get(container, ())

    def everything(self) -> Mapping[Container, tuple[LogLine, ...]]:
        """What every container has written so far, also of pods that are gone."""
        return dict(self._lines)

    def text(self, container: Container) -> str:
        """The same as `pods/log` gives it."""
        return "".join(f"{line.text}\n" for line in self.lines(container))
