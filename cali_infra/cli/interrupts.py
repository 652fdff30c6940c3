"""Ctrl-C: in a command that changes things once, cleanly, and said; in one that only serves its ordinary end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cali_infra.ui import UI


# What is said at the first Ctrl-C, and at each further one.
TERRAFORM = (
    "stopping: Terraform puts down what it holds and writes its state; this can take a minute",
    "still stopping: killing it now would lose the state of what is being made",
)


@contextmanager
def interruptible(ui: UI, words: tuple[str, str] = TERRAFORM) -> Iterator[Event]:
    """An event that the first Ctrl-C (or SIGTERM) sets, for as long as the block lasts.

    While a question is open there is nothing to put down: Ctrl-C then ends it with KeyboardInterrupt.
    """
    cancel = Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        first = not cancel.is_set()
        cancel.set()
        if ui.asking:
            raise KeyboardInterrupt
        # Not here: the signal may have come in the middle of a line that this very thread was writing.
        Thread(target=ui.warn, args=(words[not first],), daemon=True).start()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping(stop: asyncio.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set `stop` for as long as the block lasts; within a running event loop."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
