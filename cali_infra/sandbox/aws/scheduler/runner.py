"""Runs what is due on the scheduler's clock, and buries in the dead-letter queue what fails to the end.

It owns the thread that sleeps until the next schedule is due, the retries, and the dead letters. Time that
was skipped by moving the clock is lived through in its order: each call and each retry happens as of its
own moment.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from cali_infra.sandbox.aws import errors
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.scheduler.letters import DeadLetter, Mailbox
from cali_infra.sandbox.aws.scheduler.state import Book, Schedule
from cali_infra.sandbox.aws.scheduler.targets import SEND, Targets

# AWS says that pauses grow exponentially, and not how. These give 150 tries in the day that it tries at most.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 600.0
# How long the thread sleeps at most before it looks at the clock again: the real time jumps when a laptop
# wakes. AWS itself keeps to the minute.
_NAP = 60.0
_log = logging.getLogger(__name__)


class Runner:
    """Runs the schedules of one book."""

    def __init__(
        self,
        book: Book,
        targets: Targets,
        mailbox: Mailbox,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._book = book
        self._targets = targets
        self._mailbox = mailbox
        self._clock = clock
        self._new_id = new_id
        self._running = threading.Lock()
        self._news = threading.Condition()
        self._stale = False
        self._stopped = True
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run what is due from now on, in a thread of this process."""
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="scheduler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; harmless when there is none."""
        with self._news:
            self._stopped = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._thread = None

    def look(self) -> None:
        """Look at the schedules anew: one has changed."""
        with self._news:
            self._stale = True
            self._news.notify()

    def run_due(self) -> None:
        """Call every target that is due by now, before returning."""
        self._run_all()
        self.look()

    def _run_all(self) -> None:
        with self._running:
            while (schedule := self._book.earliest()) is not None:
                if schedule.next_at is None or schedule.next_at > self._clock():
                    return
                self._run(schedule, schedule.next_at)

    def _watch(self) -> None:
        while not self._stopped:
            self._run_all()
            with self._news:
                self._news.wait_for(lambda: self._stale or self._stopped, self._nap())
                self._stale = False

    def _nap(self) -> float | None:
        """Seconds until something is due, None when nothing is waiting."""
        schedule = self._book.earliest()
        if schedule is None or schedule.next_at is None:
            return None
        return min(max(0.0, (schedule.next_at - self._clock()).total_seconds()), _NAP)

    def _run(self, schedule: Schedule, at: datetime) -> None:
        """Call the target of a schedule as of that moment, and note what comes of it."""
        execution = self._new_id()
        try:
            self._targets.invoke(schedule, execution)
        except Exception as problem:
            self._failed(schedule, at, execution, _as_error(schedule, problem))
        else:
            self._book.replace(schedule, replace(schedule, next_at=None))

    def _failed(self, schedule: Schedule, at: datetime, execution: str, error: ServiceError) -> None:
        policy = schedule.target["RetryPolicy"]
        gives_up = schedule.due + timedelta(seconds=policy["MaximumEventAgeInSeconds"])
        exhausted = ""
        if schedule.failures >= policy["MaximumRetryAttempts"]:
            exhausted = "MaximumRetryAttempts"
        elif at >= gives_up:
            exhausted = "MaximumEventAgeInSeconds"
        pause = timedelta(seconds=min(_FIRST_PAUSE * 2**schedule.failures, _LONGEST_PAUSE))
        again = None if exhausted else min(at + pause, gives_up)
        if not self._book.replace(schedule, replace(schedule, next_at=again, failures=schedule.failures + 1)):
            return
        if exhausted:
            self._bury(DeadLetter(schedule, execution, error, schedule.failures, exhausted))

    def _bury(self, letter: DeadLetter) -> None:
        queue = letter.schedule.target.get("DeadLetterConfig", {}).get("Arn")
        _log.warning("%s failed to the end: %s", letter.schedule.arn, letter.error)
        if queue is None:
            return
        try:
            caller = self._targets.assume(letter.schedule, letter.execution)
            self._targets.require(caller, SEND, queue)
            self._mailbox.send(queue, letter)
        except (ServiceError, NotImplementedError) as lost:
            # As on AWS, which counts it in a metric and says no more.
            _log.warning("the dead letter of %s is lost: %s", letter.schedule.arn, lost)


def _as_error(schedule: Schedule, problem: Exception) -> ServiceError:
    """What went wrong, as the dead letter tells it."""
    if isinstance(problem, ServiceError):
        return problem
    if isinstance(problem, NotImplementedError):
        return ServiceError(errors.NOT_MODELLED, f"the sandbox does not model this: {problem}")
    _log.error("the AWS stand-in failed to run %s", schedule.arn, exc_info=problem)
    return ServiceError(errors.FAILED, f"the AWS stand-in failed: {problem!r}")
