"""`plan` and `up` over drivers that do nothing but remember: order, approval, guards, failure, interrupts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

import pytest

from cali_infra.core.deploy import Deployment, Question, selection
from cali_infra.core.plans import Action, ResourceChange, StagePlan, Status
from cali_infra.core.progress import Progress, Silent
from cali_infra.core.report import Report
from cali_infra.core.stages import BY_NAME, STAGES
from cali_infra.errors import (
    GuardedChangeError,
    OperationError,
    RefusedError,
    RunInterruptedError,
    UsageError,
)

CREATE = ResourceChange("aws_thing.new", Action.CREATE)
UPDATE = ResourceChange("aws_thing.old", Action.UPDATE)
REPLACE_CLUSTER = ResourceChange("aws_eks_cluster.this", Action.REPLACE)


@dataclass
class World:
    """What is applied, who worked when, and what the drivers are told to do."""

    applied: set[str] = field(default_factory=set)
    changes: dict[str, tuple[ResourceChange, ...]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    unplannable: set[str] = field(default_factory=set)
    log: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    on_apply: Callable[[str], None] = lambda name: None

    def note(self, name: str, what: str) -> None:
        with self.lock:
            self.log.append((name, what))

    def did(self, what: str) -> list[str]:
        return [name for name, done in self.log if done == what]


class Remembering:
    """A driver whose stage exists in a World only; a new stage creates, an applied one has no changes."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world

    def open(self, cancel: Event) -> None:
        self.world.note(self.name, "open")

    def exists(self) -> bool:
        return self.name in self.world.applied

    def missing(self) -> tuple[str, ...]:
        return tuple(need for need in BY_NAME[self.name].needs if need not in self.world.applied)

    def fingerprint(self) -> str:
        return ",".join(sorted(self.world.applied & set(BY_NAME[self.name].needs)))

    def plan(self, watch: Progress, cancel: Event) -> StagePlan:
        self.world.note(self.name, "plan")
        if self.name in self.world.unplannable:
            raise OperationError(f"{self.name} has no plan")
        default = () if self.exists() else (CREATE,)
        return StagePlan(self.name, self.world.changes.get(self.name, default))

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        self.world.note(self.name, "apply")
        self.world.on_apply(self.name)
        if cancel.is_set():
            raise RunInterruptedError("interrupted")
        if self.name in self.world.failing:
            raise OperationError(f"{self.name} broke", remedy="mend it")
        self.world.applied.add(self.name)
        self.world.note(self.name, "applied")

    def discard(self) -> None:
        self.world.note(self.name, "discard")

    def contents(self, cancel: Event) -> tuple[ResourceChange, ...]:
        return ()

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        return ()


def deployment(world: World, cancel: Event | None = None) -> Deployment:
    drivers = {stage.name: Remembering(stage.name, world) for stage in STAGES}
    return Deployment(drivers, Silent(), cancel or Event(), time.monotonic)


class Asked:
    """An approver that remembers what it was asked and answers from a list, then with yes."""

    def __init__(self, *answers: bool) -> None:
        self.answers, self.questions = list(answers), list[Question]()

    def __call__(self, question: Question) -> bool:
        self.questions.append(question)
        return self.answers.pop(0) if self.answers else True


def statuses(report: Report) -> dict[str, Status]:
    return {result.name: result.status for result in report.results}


def test_a_first_up_applies_every_stage_after_what_it_needs() -> None:
    world, approve = World(), Asked()

    report = deployment(world).up(STAGES, approve)

    assert report.ok
    assert set(statuses(report).values()) == {Status.APPLIED}
    order = world.did("applied")
    for stage in STAGES:
        assert all(order.index(need) < order.index(stage.name) for need in stage.needs)


def test_one_question_covers_stages_that_can_be_planned_only_later() -> None:
    approve = Asked()

    deployment(World()).up(STAGES, approve)

    (question,) = approve.questions
    assert [plan.stage for plan in question.plans] == ["network"]
    assert question.pending["eks"] == ("network",)
    assert "logging" in question.pending


def test_a_second_up_applies_nothing_and_asks_nothing() -> None:
    world, approve = World(applied={stage.name for stage in STAGES}), Asked(False)

    report = deployment(world).up(STAGES, approve)

    assert set(statuses(report).values()) == {Status.UNCHANGED}
    assert approve.questions == []
    assert world.did("apply") == []
    assert sorted(world.did("plan")) == sorted(stage.name for stage in STAGES), "one plan for each stage"


def test_a_refusal_touches_nothing() -> None:
    world = World()

    with pytest.raises(RefusedError):
        deployment(world).up(STAGES, Asked(False))

    assert world.did("apply") == []
    assert sorted(world.did("discard")) == sorted(stage.name for stage in STAGES)


def test_replacing_the_cluster_is_refused_before_anything_is_applied() -> None:
    world = World(
        applied={stage.name for stage in STAGES},
        changes={"network": (UPDATE,), "eks": (REPLACE_CLUSTER,)},
    )

    with pytest.raises(GuardedChangeError) as caught:
        deployment(world).up(STAGES, Asked())

    assert caught.value.addresses == ("aws_eks_cluster.this",)
    assert "--allow-replace 'aws_eks_cluster.this'" in caught.value.remedy
    assert world.did("apply") == []


def test_a_named_guarded_resource_may_be_replaced() -> None:
    world = World(applied={stage.name for stage in STAGES}, changes={"eks": (REPLACE_CLUSTER,)})

    report = deployment(world).up(STAGES, Asked(), allow_replace=["aws_eks_cluster.this"])

    assert report.ok
    assert statuses(report)["eks"] is Status.APPLIED


def test_a_later_plan_that_changes_something_is_asked_for_again() -> None:
    world = World(applied={"eks"}, changes={"eks": (UPDATE,)})
    approve = Asked()

    report = deployment(world).up(selection(["network", "eks"], None), approve)

    first, second = approve.questions
    assert [plan.stage for plan in first.plans] == ["network"]
    assert not first.again
    assert [plan.stage for plan in second.plans] == ["eks"]
    assert second.again
    assert report.ok


def test_a_later_plan_that_is_not_approved_leaves_its_stage_and_what_needs_it() -> None:
    world = World(applied={"eks"}, changes={"eks": (UPDATE,)})

    report = deployment(world).up(STAGES, Asked(True, False))

    found = statuses(report)
    assert report.refused
    assert found["network"] is Status.APPLIED
    assert found["eks"] is Status.FAILED
    assert found["access"] is Status.SKIPPED
    assert found["search"] is Status.APPLIED, "what does not need it goes on"
    assert "eks" not in world.did("apply")


def test_a_later_plan_that_breaks_a_guard_fails_its_stage() -> None:
    world = World(applied={"eks"}, changes={"eks": (REPLACE_CLUSTER,)})

    report = deployment(world).up(selection(["network", "eks"], None), Asked())

    assert report.refused
    assert statuses(report) == {"network": Status.APPLIED, "eks": Status.FAILED}
    assert "eks" not in world.did("apply")


def test_a_failing_stage_stops_only_what_needs_it_and_the_next_up_goes_on_from_there() -> None:
    world = World(failing={"eks"})

    report = deployment(world).up(STAGES, Asked())

    found = statuses(report)
    assert found["eks"] is Status.FAILED
    assert found["search"] is found["index"] is Status.APPLIED
    for name in ("access", "autoscaler", "storage", "logging"):
        assert found[name] is Status.SKIPPED
    assert not report.ok
    (failed,) = [result for result in report.results if result.status is Status.FAILED]
    assert (failed.error, failed.remedy) == ("eks broke", "mend it")

    world.failing.clear()
    again = statuses(deployment(world).up(STAGES, Asked()))
    assert again["network"] is again["search"] is Status.UNCHANGED
    assert again["eks"] is again["logging"] is Status.APPLIED


def test_a_stage_that_cannot_be_planned_stops_only_what_needs_it() -> None:
    world = World(applied={"network", "eks", "search"}, unplannable={"eks"}, changes={"search": (UPDATE,)})

    report = deployment(world).up(STAGES, Asked())

    found = statuses(report)
    assert found["eks"] is Status.FAILED
    assert found["access"] is Status.SKIPPED
    assert found["search"] is found["index"] is Status.APPLIED
    assert statuses(deployment(world).plan(STAGES))["eks"] is Status.FAILED


def test_stages_that_do_not_wait_for_each_other_run_at_the_same_time() -> None:
    world, both = World(), threading.Barrier(2, timeout=10)

    def meet(name: str) -> None:
        if name in ("eks", "search"):
            both.wait()

    world.on_apply = meet

    assert deployment(world).up(STAGES, Asked()).ok


def test_an_interrupt_stops_the_walk_and_says_so() -> None:
    world, cancel = World(), Event()

    def interrupt(name: str) -> None:
        if name == "network":
            cancel.set()

    world.on_apply = interrupt

    report = deployment(world, cancel).up(STAGES, Asked())

    assert report.interrupted
    assert not report.ok
    assert world.did("apply") == ["network"]
    assert set(statuses(report).values()) == {Status.FAILED, Status.SKIPPED}


def test_one_stage_alone_needs_what_it_needs_to_be_there() -> None:
    world = World()

    with pytest.raises(UsageError) as caught:
        deployment(world).up(selection(["logging"], None), Asked())

    assert "storage, index" in str(caught.value)
    assert caught.value.remedy == "cali up --through logging"
    assert world.did("apply") == []


@pytest.mark.parametrize(
    ("names", "through", "expected"),
    [
        ([], None, [stage.name for stage in STAGES]),
        (["logging", "storage"], None, ["storage", "logging"]),
        ([], "storage", ["network", "eks", "access", "storage"]),
    ],
)
def test_what_a_command_works_on(names: Sequence[str], through: str | None, expected: list[str]) -> None:
    assert [stage.name for stage in selection(names, through)] == expected


def test_a_stage_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'storage'"):
        selection(["storge"], None)


def test_plan_reports_what_cannot_be_planned_yet() -> None:
    world = World(applied={"network"}, changes={"network": (UPDATE,)})

    report = deployment(world).plan(STAGES)

    found = statuses(report)
    assert found["network"] is found["eks"] is found["search"] is Status.CHANGES
    assert found["access"] is Status.PENDING
    assert world.did("apply") == []
    assert report.changed


def test_plan_of_a_whole_environment_says_unchanged() -> None:
    report = deployment(World(applied={stage.name for stage in STAGES})).plan(STAGES)

    assert set(statuses(report).values()) == {Status.UNCHANGED}
    assert not report.changed
