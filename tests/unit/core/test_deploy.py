"""`plan` and `up` over drivers that do nothing but remember: order, approval, guards, failure, interrupts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

import pytest

from cali_infra.core.deploy import Deployment, Question, selection
from cali_infra.core.progress import Progress, Silent
from cali_infra.core.report import Report
from cali_infra.core.stages import BY_NAME, STAGES
from cali_infra.errors import (
    GuardedChangeError,
    OperationError,
    RefusedError,
    RunInterruptedError,
    UsageError,
    WrongTargetError,
)
from cali_infra.plans import Action, ResourceChange, StagePlan, Status

CREATE = ResourceChange("aws_thing.new", Action.CREATE)
UPDATE = ResourceChange("aws_thing.old", Action.UPDATE)
REPLACE_CLUSTER = ResourceChange("aws_eks_cluster.this", Action.REPLACE)


@dataclass
class World:
    """What is applied, who worked when, and what the drivers are told to do."""

    applied: set[str] = field(default_factory=set)
    changes: dict[str, tuple[ResourceChange, ...]] = field(default_factory=dict)
    warnings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    unplannable: set[str] = field(default_factory=set)
    deaf_until: dict[str, str] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    on_plan: Callable[[str], None] = lambda name: None
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
        if self.name in self.world.elsewhere:
            raise WrongTargetError("another cluster")
        if (other := self.world.deaf_until.get(self.name)) and (other, "applied") not in self.world.log:
            raise OperationError(f"{self.name} cannot be reached")
        return tuple(need for need in BY_NAME[self.name].needs if need not in self.world.applied)

    def fingerprint(self) -> str:
        if self.name in self.world.lost and self.world.did("applied"):
            raise OperationError("the state cannot be read")
        return ",".join(sorted(self.world.applied & set(BY_NAME[self.name].needs)))

    def plan(self, watch: Progress, cancel: Event) -> StagePlan:
        self.world.note(self.name, "plan")
        self.world.on_plan(self.name)
        if self.name in self.world.unplannable:
            raise OperationError(f"{self.name} has no plan")
        default = () if self.exists() else (CREATE,)
        return StagePlan(
            self.name, self.world.changes.get(self.name, default), self.world.warnings.get(self.name, ())
        )

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


@pytest.mark.parametrize("answer", [KeyboardInterrupt(), RefusedError("the input ended")])
def test_a_late_question_that_ends_without_an_answer_loses_no_report(answer: BaseException) -> None:
    world = World(applied={"eks"}, changes={"eks": (UPDATE,)})

    def approve(question: Question) -> bool:
        if question.again:
            raise answer
        return True

    report = deployment(world).up(STAGES, approve)

    found = statuses(report)
    assert found["network"] is Status.APPLIED
    assert found["eks"] in (Status.FAILED, Status.SKIPPED)
    assert "eks" not in world.did("apply")
    assert report.interrupted is isinstance(answer, KeyboardInterrupt)
    assert report.refused is isinstance(answer, RefusedError) or report.interrupted


def test_plan_files_go_when_no_thread_writes_them_any_more() -> None:
    world = World(applied={"network"}, elsewhere={"eks"})
    world.on_plan = lambda name: time.sleep(0.2)

    def crash(question: Question) -> bool:
        raise AssertionError("nobody is asked")

    with pytest.raises(WrongTargetError):
        deployment(world).up(STAGES, crash)

    last = max(i for i, (_, what) in enumerate(world.log) if what == "plan")
    assert all(i > last for i, (_, what) in enumerate(world.log) if what == "discard")
    assert world.did("apply") == []


def test_what_could_not_be_reached_is_looked_at_again_after_what_lets_it_in() -> None:
    everything = {stage.name for stage in STAGES}
    world = World(applied=everything, changes={"eks": (UPDATE,)}, deaf_until={"storage": "eks"})

    report = deployment(world).up(STAGES, Asked())

    assert report.ok
    assert statuses(report)["storage"] is Status.UNCHANGED


def test_what_could_not_be_reached_is_asked_for_when_it_changes_something_after_all() -> None:
    world = World(
        applied={stage.name for stage in STAGES},
        changes={"eks": (UPDATE,), "storage": (CREATE,)},
        deaf_until={"storage": "eks"},
    )
    approve = Asked(True, False)

    report = deployment(world).up(STAGES, approve)

    assert approve.questions[-1].again
    assert statuses(report)["storage"] is Status.FAILED
    assert "storage" not in world.did("apply")


def test_what_could_not_be_reached_fails_when_nothing_below_it_was_applied() -> None:
    everything = {stage.name for stage in STAGES}
    world = World(applied=everything, changes={"search": (UPDATE,)}, deaf_until={"storage": "eks"})

    found = statuses(deployment(world).up(STAGES, Asked()))

    assert found["storage"] is Status.FAILED
    assert found["search"] is Status.APPLIED


def test_inputs_that_cannot_be_read_fail_their_stage_and_not_the_run() -> None:
    world = World(applied={"network", "eks", "search"}, changes={"network": (UPDATE,), "eks": (UPDATE,)})
    world.on_apply = lambda name: world.lost.add("eks")

    report = deployment(world).up(selection(["network", "eks", "search"], None), Asked())

    assert statuses(report) == {
        "network": Status.APPLIED,
        "eks": Status.FAILED,
        "search": Status.UNCHANGED,
    }


def test_a_stage_that_cannot_be_opened_is_not_planned_after_itself() -> None:
    world, approve = World(applied={"network", "eks"}, changes={"network": (UPDATE,)}), Asked()
    made = deployment(world)

    def fail(cancel: Event) -> None:
        raise OperationError("no provider")

    made.drivers["eks"].open = fail  # type: ignore[method-assign]
    report = made.up(STAGES, approve)

    assert "eks" not in approve.questions[0].pending
    assert statuses(report)["eks"] is Status.FAILED
    assert "eks" not in world.did("plan")


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


def test_plan_hands_on_what_a_stage_has_to_say_of_its_changes() -> None:
    world = World(
        applied={stage.name for stage in STAGES},
        changes={"storage": (UPDATE,)},
        warnings={"storage": ("volumes are not touched",)},
    )

    report = deployment(world).plan(STAGES)

    (said,) = [result for result in report.results if result.warnings]
    assert (said.name, said.changes, said.warnings) == ("storage", (UPDATE,), ("volumes are not touched",))
