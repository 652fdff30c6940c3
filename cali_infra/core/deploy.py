"""`plan` and `up`: walk the graph of stages, side by side where nothing waits, under one approval.

The coordinator runs in the caller's thread and is the only one that decides or asks; the stages work in
threads. What a stage does is its driver's business (`drivers.py`), what may not be deleted is `guard.py`'s.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

from cali_infra.core import guard
from cali_infra.core.drivers import Drivers
from cali_infra.core.progress import Progress
from cali_infra.core.report import Report
from cali_infra.core.stages import STAGES, Stage, closure, forward, named
from cali_infra.errors import (
    CaliError,
    RefusedError,
    RunInterruptedError,
    StalePlanError,
    UsageError,
    WrongTargetError,
)
from cali_infra.plans import StagePlan, StageResult, Status

WORKERS = 8
# How often a stage is planned again because its state has moved on in between.
_STALE = 3


@dataclass(frozen=True)
class Question:
    """What a person is asked to approve: these plans now; `pending` maps a stage to those it waits for."""

    plans: tuple[StagePlan, ...]
    pending: Mapping[str, tuple[str, ...]]
    again: bool = False


Approve = Callable[[Question], bool]


@dataclass
class _Progress:
    """What the coordinator knows of one stage."""

    stage: Stage
    plan: StagePlan | None = None
    fingerprint: str = ""
    pending: tuple[str, ...] = ()
    error: CaliError | None = None
    status: Status | None = None
    existed: bool = False
    opened: bool = True
    seconds: float = 0.0
    note: str = ""
    stale: int = 0

    def result(self) -> StageResult:
        plan = self.plan or StagePlan(self.stage.name)
        error = str(self.error) if self.error else self.note
        return StageResult(
            name=self.stage.name,
            status=self.status or Status.SKIPPED,
            seconds=self.seconds,
            add=plan.add,
            change=plan.change,
            destroy=plan.destroy,
            error=error,
            remedy=self.error.remedy if self.error else "",
            refused=isinstance(self.error, RefusedError),
            changes=plan.changes,
            warnings=plan.warnings,
        )


@dataclass
class Deployment:
    """One run over some stages. `drivers` holds a driver for each of them and for all that they need;
    `on_approved` is called after the approval, before the first stage is applied."""

    drivers: Drivers
    watch: Progress
    cancel: Event
    clock: Callable[[], float]
    on_approved: Callable[[], None] = lambda: None
    _states: dict[str, _Progress] = field(default_factory=dict)
    _approved: bool = False

    def plan(self, stages: Sequence[Stage]) -> Report:
        """What `up` would change; nothing is written outside the workspace."""
        try:
            with ThreadPoolExecutor(WORKERS, thread_name_prefix="plan") as pool:
                self._survey(stages, pool)
        finally:
            # Only now does no thread write a plan file any more.
            self._discard(stages)
        for state in self._states.values():
            if state.error:
                state.status = Status.FAILED
            elif state.pending:
                state.status = Status.PENDING
                state.note = f"planned after {', '.join(state.pending)}"
            else:
                state.status = Status.UNCHANGED if state.plan and state.plan.empty else Status.CHANGES
        return self._report()

    def up(self, stages: Sequence[Stage], approve: Approve, allow_replace: Collection[str] = ()) -> Report:
        """Plan, ask, apply.

        Raises RefusedError, before anything is touched, when the plan is not approved or breaks a guard, and
        UsageError when a stage outside the selection was never applied or the target is the wrong one.
        """
        try:
            with ThreadPoolExecutor(WORKERS, thread_name_prefix="up") as pool:
                self._survey(stages, pool)
                self._ask(approve, allow_replace)
                return self._walk(stages, pool, approve, allow_replace)
        finally:
            # Only now does no thread write a plan file any more.
            self._discard(stages)

    # The survey: everything that can be planned now.

    def _survey(self, stages: Sequence[Stage], pool: ThreadPoolExecutor) -> None:
        self._states = {stage.name: _Progress(stage) for stage in stages}
        involved = [s for s in STAGES if any(s in closure(stage.name) for stage in stages)]
        opened: dict[str, Future[None]] = {
            stage.name: pool.submit(self.drivers[stage.name].open, self.cancel) for stage in involved
        }
        planned: dict[str, Future[None]] = {}
        for stage in stages:
            broken = [s.name for s in closure(stage.name) if not self._opened(s, opened[s.name])]
            if broken:
                self._states[stage.name].pending = tuple(broken)
                continue
            planned[stage.name] = pool.submit(self._survey_one, stage.name)
        for future in [*planned.values(), *opened.values()]:
            if future.exception() is not None and not isinstance(future.exception(), CaliError):
                future.result()
        if self.cancel.is_set():
            raise RunInterruptedError("interrupted while planning; nothing was changed")
        for state in self._states.values():
            if isinstance(state.error, WrongTargetError):
                raise state.error
        absent = {need for s in self._states.values() for need in s.pending if need not in self._states}
        if absent:
            names = ", ".join(stage.name for stage in STAGES if stage.name in absent)
            raise UsageError(
                f"{', '.join(self._states)}: needs what was never applied here: {names}",
                remedy=f"cali up --through {stages[-1].name}",
            )

    def _opened(self, stage: Stage, future: Future[None]) -> bool:
        """Wait until a stage is open; an error of one outside the selection ends the run."""
        try:
            future.result()
        except CaliError as error:
            if stage.name not in self._states:
                raise
            self._states[stage.name].error = error
            self._states[stage.name].opened = False
            return False
        return True

    def _survey_one(self, name: str) -> None:
        state, driver = self._states[name], self.drivers[name]
        try:
            state.pending = driver.missing()
            state.existed = driver.exists()
        except CaliError as error:
            state.error = error
            # Nobody knows; what is planned later is then asked for.
            state.existed = True
            return
        if not state.pending:
            self._plan(state)

    def _plan(self, state: _Progress) -> None:
        driver, started = self.drivers[state.stage.name], self.clock()
        self.watch.stage_started(state.stage.name, "planning")
        try:
            state.fingerprint = driver.fingerprint()
            state.plan = driver.plan(self.watch, self.cancel)
            self.watch.stage_planned(state.plan)
        except CaliError as error:
            state.error = error
        finally:
            state.seconds += self.clock() - started

    def _ask(self, approve: Approve, allow_replace: Collection[str]) -> None:
        states = list(self._states.values())
        for state in states:
            if state.plan:
                guard.check(state.plan, allow_replace)
        plans = tuple(s.plan for s in states if s.plan and not s.plan.empty)
        pending = {s.stage.name: s.pending for s in states if s.pending and not s.error}
        if plans and not approve(Question(plans, pending)):
            raise RefusedError(
                "not approved; nothing was changed", remedy="run it again and answer y, or give --yes"
            )
        if plans:
            self._approve()

    def _approve(self) -> None:
        if not self._approved:
            self._approved = True
            self.on_approved()

    # The walk: stages in their order, those that do not wait for each other at the same time.

    def _walk(
        self,
        stages: Sequence[Stage],
        pool: ThreadPoolExecutor,
        approve: Approve,
        allow_replace: Collection[str],
    ) -> Report:
        sorter = forward(stages)
        done: queue.SimpleQueue[tuple[str, str, BaseException | None]] = queue.SimpleQueue()
        running = 0

        def submit(name: str, step: str, work: Callable[[_Progress], None]) -> None:
            def run() -> None:
                problem: BaseException | None = None
                try:
                    work(self._states[name])
                except BaseException as caught:
                    problem = caught
                done.put((name, step, problem))

            pool.submit(run)

        def finish(name: str, status: Status, note: str = "") -> None:
            state = self._states[name]
            state.status, state.note = status, note
            self.watch.stage_ended(state.result())
            sorter.done(name)

        def decide(name: str) -> bool:
            """Go on with a stage; True when a thread now works on it."""
            state = self._states[name]
            broken = [n for n in state.stage.needs if n in self._states and not self._stands(n)]
            if self.cancel.is_set():
                finish(name, Status.SKIPPED, "interrupted")
            elif broken:
                finish(name, Status.SKIPPED, f"needs {', '.join(broken)}")
            elif state.error and not self._worth_another_look(state):
                finish(name, Status.FAILED)
            elif state.error or not self._plan_holds(state):
                state.plan, state.pending, state.error = None, (), None
                submit(name, "planned", self._plan)
                return True
            elif state.plan is not None and state.plan.empty:
                finish(name, Status.UNCHANGED)
            else:
                submit(name, "applied", self._apply)
                return True
            return False

        while sorter.is_active():
            for name in sorter.get_ready():
                running += decide(name)
            if not running:
                continue
            name, step, problem = done.get()
            running -= 1
            state = self._states[name]
            if problem is not None and not isinstance(problem, CaliError):
                self.cancel.set()
                raise problem
            if isinstance(problem, StalePlanError) and state.stale < _STALE:
                # Somebody else was faster. Nothing was done yet: what is to be done now is shown again.
                state.stale, state.plan = state.stale + 1, None
                submit(name, "planned", self._plan)
                running += 1
                continue
            if isinstance(problem, CaliError):
                state.error = problem
            if state.error:
                finish(name, Status.FAILED)
            elif step == "applied":
                finish(name, Status.APPLIED)
            else:
                self._approve_late(state, approve, allow_replace)
                running += decide(name)
        return self._report()

    def _stands(self, name: str) -> bool:
        return self._states[name].status in (Status.APPLIED, Status.UNCHANGED)

    def _plan_holds(self, state: _Progress) -> bool:
        """A plan made in the survey is still exact as long as what it was made from is the same."""
        if state.plan is None:
            return False
        try:
            return state.fingerprint == self.drivers[state.stage.name].fingerprint()
        except CaliError:
            # Planned anew, in its own thread, the stage says itself what is wrong.
            return False

    def _worth_another_look(self, state: _Progress) -> bool:
        """Whether what could not be planned in the survey can be by now: something below it was applied, such
        as the addresses that are let in."""
        below = {stage.name for stage in closure(state.stage.name)} - {state.stage.name}
        applied = {name for name, other in self._states.items() if other.status is Status.APPLIED}
        return state.opened and state.plan is None and bool(below & applied)

    def _approve_late(self, state: _Progress, approve: Approve, allow_replace: Collection[str]) -> None:
        """A plan made after the approval is covered by it only where it does nothing but create."""
        plan = state.plan
        if plan is None or plan.empty:
            return
        try:
            guard.check(plan, allow_replace)
        except RefusedError as error:
            state.error = error
            return
        if self._approved and plan.only_creates and not state.existed:
            return
        try:
            if not approve(Question((plan,), {}, again=True)):
                raise RefusedError(
                    f"{plan.stage}: not approved; it was left as it was",
                    remedy=f"run `cali up {plan.stage}` and answer y",
                )
            self._approve()
        except RefusedError as error:
            state.error = error
        except KeyboardInterrupt:
            # Others are at work: they are put down and reported like after any other interrupt.
            self.cancel.set()
            state.error = RunInterruptedError(f"{plan.stage}: interrupted; it was left as it was")

    def _apply(self, state: _Progress) -> None:
        driver, started = self.drivers[state.stage.name], self.clock()
        assert state.plan is not None
        self.watch.stage_started(state.stage.name, "applying")
        try:
            driver.apply(state.plan, self.watch, self.cancel)
        finally:
            state.seconds += self.clock() - started

    def _discard(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            self.drivers[stage.name].discard()

    def _report(self) -> Report:
        states = [self._states[stage.name] for stage in STAGES if stage.name in self._states]
        return Report(
            tuple(state.result() for state in states),
            interrupted=self.cancel.is_set(),
        )


def selection(names: Sequence[str], through: str | None) -> tuple[Stage, ...]:
    """The stages that a command works on: all, those named, or one and what it needs.

    Raises UsageError for an unknown name.
    """
    if through is not None:
        chosen = {stage.name for stage in closure(through)} | set(names)
        return named(sorted(chosen))
    return named(names) if names else STAGES
