"""`down`: walk the graph backwards, say what goes, take it away, and say what survived.

`access` goes last before `eks`, since everything that speaks to the cluster gets in by it; that order is the
graph's (`stages.backward`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event

from cali_infra.core.deploy import WORKERS
from cali_infra.core.drivers import Drivers
from cali_infra.core.progress import Progress
from cali_infra.core.report import Report
from cali_infra.core.stages import MOUNTING, STAGES, Stage, backward
from cali_infra.errors import CaliError, RefusedError, RunInterruptedError, UsageError
from cali_infra.plans import Action, ResourceChange, StageResult, Status

Contents = Mapping[str, tuple[ResourceChange, ...]]


@dataclass
class Destruction:
    """One run of `down`. `prepare` runs once, after the approval: when the stages that mount volumes are gone, and
    before any other goes. Where one of them is not gone, it does not run."""

    drivers: Drivers
    watch: Progress
    cancel: Event
    clock: Callable[[], float]
    prepare: Callable[[], None] = lambda: None

    def contents(self, stages: Sequence[Stage]) -> Contents:
        """What each stage holds, by name; of one that cannot be asked, such as of a cluster that is gone, a word.

        Raises what a driver raises when it cannot be opened, UsageError, and RunInterruptedError after `cancel`.
        """
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="down") as pool:
            opened = {stage.name: pool.submit(self.drivers[stage.name].open, self.cancel) for stage in STAGES}
            for future in opened.values():
                future.result()
            asked = {s.name: pool.submit(self._contents, s.name) for s in stages}
            contents = {name: future.result() for name, future in asked.items()}
        self._stop()
        return contents

    def _contents(self, name: str) -> tuple[ResourceChange, ...]:
        try:
            return self.drivers[name].contents(self.cancel)
        except (UsageError, RunInterruptedError):
            raise
        except CaliError as error:
            # The other stages can still go; this one fails in its turn, unless it can be asked by then.
            return (ResourceChange(f"all of it ({error.message})", Action.DELETE),)

    def _stop(self) -> None:
        if self.cancel.is_set():
            raise RunInterruptedError("interrupted; nothing was deleted")

    def down(
        self, stages: Sequence[Stage], contents: Contents, approve: Callable[[Contents], bool]
    ) -> Report:
        """Ask, then destroy.

        Raises RefusedError, before anything is touched, when it is not approved, and RunInterruptedError after
        `cancel`.
        """
        if any(contents.values()):
            if not approve(contents):
                raise RefusedError(
                    "not approved; nothing was deleted", remedy="run it again and answer y, or give --yes"
                )
            self._stop()
        results: dict[str, StageResult] = {}
        mounting = [stage for stage in stages if stage.name in MOUNTING]
        self._walk(mounting, stages, results)
        released = all(results[stage.name].status is Status.DESTROYED for stage in mounting)
        if released and any(contents.values()) and not self.cancel.is_set():
            self.prepare()
        self._walk([stage for stage in stages if stage not in mounting], stages, results)
        ordered = tuple(results[stage.name] for stage in reversed(STAGES) if stage.name in results)
        return Report(ordered, interrupted=self.cancel.is_set())

    def _walk(self, group: Sequence[Stage], stages: Sequence[Stage], results: dict[str, StageResult]) -> None:
        """Take a group of the stages away; `results` has those that went before, and gets these."""
        running: dict[Future[StageResult], str] = {}
        sorter = backward(group)

        def settle(result: StageResult) -> None:
            results[result.name] = result
            self.watch.stage_ended(result)
            sorter.done(result.name)

        with ThreadPoolExecutor(WORKERS, thread_name_prefix="down") as pool:
            while sorter.is_active():
                for name in sorter.get_ready():
                    standing = [
                        other.name
                        for other in stages
                        if name in other.needs and results[other.name].status is not Status.DESTROYED
                    ]
                    if self.cancel.is_set():
                        settle(StageResult(name, Status.SKIPPED, error="interrupted"))
                    elif standing:
                        settle(StageResult(name, Status.SKIPPED, error=f"{', '.join(standing)} still stands"))
                    else:
                        running[pool.submit(self._destroy, name)] = name
                if running:
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        running.pop(future)
                        if future.exception() is not None:
                            # A mistake of our own: the others put down what they hold, and it is told.
                            self.cancel.set()
                        settle(future.result())

    def _destroy(self, name: str) -> StageResult:
        started = self.clock()
        self.watch.stage_started(name, "destroying")
        try:
            gone = self.drivers[name].destroy(self.watch, self.cancel)
        except CaliError as error:
            return StageResult(
                name, Status.FAILED, self.clock() - started, error=str(error), remedy=error.remedy
            )
        return StageResult(name, Status.DESTROYED, self.clock() - started, destroy=len(gone), changes=gone)
