"""Running checks: side by side as soon as what they need has passed, each in its own time.

The coordinator runs in the caller's thread and is the only one that decides; each check has a thread of its own,
a daemon: one that hangs is given up when its time is over, and keeps neither the others nor the process waiting.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

from cali_infra.errors import CaliError, RunInterruptedError
from cali_infra.verify.checks import Check, Result, Status, failed, skipped
from cali_infra.verify.context import Context, Facts, Left, Undoing, random_suffix
from cali_infra.verify.report import Line, Report
from cali_infra.verify.subject import Subject

# How often the coordinator looks at the cancel event, in seconds; a check's end is seen at once.
_TICK = 0.05
# Seconds between two rounds of `--wait`: at first it may be a matter of moments.
FIRST_PAUSE, PAUSE = 2.0, 10.0
# Beyond a check's own grace, in seconds, for what is being put down.
FAREWELL = 10.0
_BUG = "this is a mistake in cali itself: please report it"


class Watch(Protocol):
    """Who is told how a run goes on, in the coordinator's thread."""

    def started(self, check: Check) -> None:
        """A check is under way."""

    def ended(self, check: Check, result: Result) -> None:
        """A check is done, in whatever way."""

    def putting_down(self, checks: Sequence[Check]) -> None:
        """All is known, and what these checks have made is still being put down."""

    def again(self, left: int, total: int, pause: float) -> None:
        """A round is over and `left` checks have not passed; the next one, over `total` checks with what those
        need, comes in `pause` seconds."""


class Silent:
    """A watcher that looks away."""

    def started(self, check: Check) -> None: ...

    def ended(self, check: Check, result: Result) -> None: ...

    def putting_down(self, checks: Sequence[Check]) -> None: ...

    def again(self, left: int, total: int, pause: float) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


def _approve(check: Check) -> bool:
    return False


@dataclass
class _Turn:
    """One check under way."""

    check: Check
    context: Context
    started: float
    deadline: float
    thread: Thread | None = None
    result: Result | None = None
    put_down: Event = field(default_factory=Event)


@dataclass(frozen=True)
class Runner:
    """Runs checks over a platform.

    `cancel` ends the run: nothing more is begun, what is under way gets its grace, and what is known is reported.
    `approve` is asked once, before anything begins, for each check that has a question. `clock` counts seconds,
    `now` is the time of day, `suffix` makes the random part of a name. `farewell` is for how many seconds beyond a
    check's grace is waited for what it made to be put down.
    """

    subject: Subject
    cancel: Event
    watch: Watch = field(default_factory=Silent)
    approve: Callable[[Check], bool] = _approve
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = _now
    suffix: Callable[[], str] = random_suffix
    farewell: float = FAREWELL

    def run(self, checks: Sequence[Check]) -> Report:
        """Run these checks once, in the order of their needs; every need has to be among them."""
        return self._round(checks, self._refused(checks))

    def until_passed(
        self,
        checks: Sequence[Check],
        patience: float,
        *,
        strict: bool = False,
        pause: Callable[[float], object] | None = None,
    ) -> Report:
        """Run these checks again and again until all pass or `patience` seconds are over.

        Each round asks anew, and only for what has not passed yet and what that needs; not for what a person was
        asked about, who said yes to one time.
        """
        rest = pause or self.cancel.wait
        refused, began = self._refused(checks), self.clock()
        report, length = self._round(checks, refused), FIRST_PAUSE
        while not report.ok(strict) and not report.interrupted:
            left = patience - (self.clock() - began)
            if left <= 0:
                break
            waiting = _not_passed(report, strict)
            if not waiting:
                break
            again = _with_needs(checks, waiting)
            self.watch.again(len(waiting), len(again), min(length, left))
            rest(min(length, left))
            length = min(2 * length, PAUSE)
            if self.cancel.is_set():
                return replace(report, interrupted=True, seconds=self.clock() - began)
            report = report.updated(self._round(again, refused))
            report = replace(report, seconds=self.clock() - began)
        return report

    def _refused(self, checks: Sequence[Check]) -> frozenset[str]:
        return frozenset(check.id for check in checks if check.question and not self.approve(check))

    def _round(self, checks: Sequence[Check], refused: Collection[str]) -> Report:
        began, at = self.clock(), self.now()
        facts = Facts(self.cancel)
        try:
            results = _Round(self, facts, checks, refused).go()
        finally:
            facts.close()
        lines = tuple(Line(check, results[check.id]) for check in checks)
        return Report(lines, at, self.clock() - began, interrupted=self.cancel.is_set())


@dataclass
class _Round:
    """One run over the checks, from the first to the last."""

    runner: Runner
    facts: Facts
    checks: Sequence[Check]
    refused: Collection[str]
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = {check.id: check for check in self.checks}
        self._running: dict[str, _Turn] = {}
        self._over: list[_Turn] = []
        self._done: queue.SimpleQueue[_Turn] = queue.SimpleQueue()

    def go(self) -> dict[str, Result]:
        for check in [check for check in self.checks if check.id in self.refused]:
            del self._waiting[check.id]
            self._settle(check, skipped(f"not approved (--yes approves it): {check.question}"))
        interrupted = False
        while self._waiting or self._running:
            if self.runner.cancel.is_set() and not interrupted:
                interrupted = True
                self._interrupt()
            self._begin_what_can()
            self._wait()
            self._give_up_what_is_late()
        self._put_all_down()
        return self.results

    def _put_all_down(self) -> None:
        """All that was made is put down before anybody is told that it is over."""
        late = [turn for turn in self._over if not turn.put_down.is_set()]
        if late:
            self.runner.watch.putting_down([turn.check for turn in late])
        for turn in late:
            turn.put_down.wait(2 * turn.check.grace + self.runner.farewell)
        for turn in self._over:
            left = turn.context.undoing.left()
            if left:
                self.results[turn.check.id] = _left_behind(turn.check, self.results[turn.check.id], left)

    def _begin_what_can(self) -> None:
        moved = True
        while moved:
            moved = False
            for check in list(self._waiting.values()):
                broken = _broken(check, self.results)
                if broken is not None:
                    del self._waiting[check.id]
                    self._settle(check, broken)
                    moved = True
                elif all(need in self.results for need in check.needs):
                    del self._waiting[check.id]
                    self._begin(check)

    def _begin(self, check: Check) -> None:
        runner, started = self.runner, self.runner.clock()
        context = Context(
            runner.subject,
            self.facts,
            Event(),
            started + check.timeout,
            clock=runner.clock,
            now=runner.now,
            suffix=runner.suffix,
            undoing=Undoing(),
        )
        turn = _Turn(check, context, started, context.deadline)
        turn.thread = Thread(target=self._work, args=(turn,), name=f"check {check.id}", daemon=True)
        self._running[check.id] = turn
        runner.watch.started(check)
        turn.thread.start()

    def _work(self, turn: _Turn) -> None:
        """In the check's own thread."""
        turn.result = _ask(turn.check, turn.context)
        # What was found is known, and others may go on with it while what was made is put down.
        self._done.put(turn)
        turn.context.undoing.run()
        turn.put_down.set()

    def _wait(self) -> None:
        if not self._running:
            return
        soonest = min(turn.deadline for turn in self._running.values()) - self.runner.clock()
        try:
            turn = self._done.get(timeout=max(0.0, min(_TICK, soonest)))
        except queue.Empty:
            return
        while turn is not None:
            # One that was given up and comes back late has its result already.
            if self._running.pop(turn.check.id, None) is not None:
                assert turn.result is not None
                self._over.append(turn)
                self._settle(turn.check, replace(turn.result, seconds=self.runner.clock() - turn.started))
            try:
                turn = self._done.get_nowait()
            except queue.Empty:
                return

    def _give_up_what_is_late(self) -> None:
        now = self.runner.clock()
        for turn in [turn for turn in self._running.values() if turn.deadline <= now]:
            if self.runner.cancel.is_set():
                result = skipped("interrupted before it ended")
            else:
                result = failed(f"no answer within {turn.check.timeout:g} seconds", turn.check.remedy)
            self._give_up(turn, replace(result, seconds=now - turn.started))

    def _give_up(self, turn: _Turn, result: Result) -> None:
        turn.context.cancel.set()
        del self._running[turn.check.id]
        if turn.check.grace or turn.context.undoing:
            self._over.append(turn)
            Thread(target=_put_down, args=(turn,), name=f"putting down {turn.check.id}", daemon=True).start()
        self._settle(turn.check, result)

    def _interrupt(self) -> None:
        """Begin nothing more, and tell what is under way to stop."""
        for check in self._waiting.values():
            self._settle(check, skipped("interrupted before it began"))
        self._waiting.clear()
        now = self.runner.clock()
        for turn in self._running.values():
            turn.context.cancel.set()
            turn.deadline = min(turn.deadline, now + turn.check.grace)

    def _settle(self, check: Check, result: Result) -> None:
        self.results[check.id] = result
        self.runner.watch.ended(check, result)


def _ask(check: Check, context: Context) -> Result:
    """What comes of a check, whatever it does."""
    try:
        result = check.ask(context)
    except RunInterruptedError as error:
        return skipped(error.message)
    except CaliError as error:
        result = failed(error.message, error.remedy)
    except Exception as error:
        return failed(f"the check crashed: {type(error).__name__}: {error} ({_place(error)})", _BUG)
    if result.status in (Status.FAIL, Status.WARN) and not result.remedy:
        return replace(result, remedy=check.remedy)
    return result


def _place(error: BaseException) -> str:
    """Where an error came from: the last line of cali's own, if one below this file is."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if "cali_infra" in Path(frame.filename).parts] or list(frames)
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "at once"


def _put_down(turn: _Turn) -> None:
    """Wait for a check that was given up, then do in its place what it has not done."""
    assert turn.thread is not None
    turn.thread.join(turn.check.grace)
    turn.context.undoing.run()
    # What the check's own thread is still at is waited for as well.
    if not turn.context.undoing:
        turn.put_down.set()


def _left_behind(check: Check, result: Result, left: Sequence[Left]) -> Result:
    words = "; ".join(each.what for each in left)
    own = [result.remedy] if result.status in (Status.FAIL, Status.WARN) else []
    remedies = dict.fromkeys(filter(None, [*own, *(each.remedy for each in left)]))
    return replace(
        result,
        status=Status.FAIL,
        detail=f"{result.detail}; left behind: {words}".lstrip("; "),
        remedy="\n".join(remedies) or check.remedy,
        left=True,
    )


def _broken(check: Check, results: Mapping[str, Result]) -> Result | None:
    """The result of a check whose ground is broken, naming the cause; None while it is not."""
    for need in check.needs:
        found = results.get(need)
        if found is not None and found.status is Status.FAIL:
            return skipped(f"{need} failed", cause=need)
        if found is not None and found.status is Status.SKIP:
            # The cause itself, and not a chain of those that were skipped for it.
            return found if found.cause else skipped(f"{need} was skipped: {found.detail}", cause=need)
    return None


def _not_passed(report: Report, strict: bool) -> list[str]:
    """What is worth asking again: what failed, and what was skipped for it."""
    results = {line.check.id: line.result for line in report.lines}
    bad = {Status.FAIL, Status.WARN} if strict else {Status.FAIL}

    def hopeful(result: Result) -> bool:
        return result.status in bad or (result.cause != "" and results[result.cause].status in bad)

    # Who said yes said it to one time; and what leaves something behind would leave more.
    once = {line.check.id for line in report.lines if line.check.question and _ran(line.result)}
    once |= {name for name, result in results.items() if result.left}
    return [name for name, result in results.items() if hopeful(result) and name not in once]


def _ran(result: Result) -> bool:
    return result.status is not Status.SKIP


def _with_needs(checks: Sequence[Check], names: Sequence[str]) -> tuple[Check, ...]:
    from cali_infra.verify.selection import with_needs

    return with_needs(checks, [check for check in checks if check.id in set(names)])
