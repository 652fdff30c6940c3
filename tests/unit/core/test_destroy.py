"""`down` over drivers that only remember: the order, the approval, and what a failure leaves standing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

import pytest

from cali_infra.core.destroy import Contents, Destruction
from cali_infra.core.progress import Progress, Silent
from cali_infra.core.report import Report
from cali_infra.core.stages import STAGES
from cali_infra.errors import OperationError, RefusedError, RunInterruptedError
from cali_infra.plans import Action, ResourceChange, StagePlan, Status


@dataclass
class World:
    standing: set[str] = field(default_factory=lambda: {stage.name for stage in STAGES})
    failing: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Standing:
    """A driver of a stage that stands in a World until it is destroyed."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world

    def open(self, cancel: Event) -> None: ...

    def exists(self) -> bool:
        return self.name in self.world.standing

    def missing(self) -> tuple[str, ...]:
        return ()

    def fingerprint(self) -> str:
        return ""

    def plan(self, watch: Progress, cancel: Event) -> StagePlan:
        return StagePlan(self.name)

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None: ...

    def discard(self) -> None: ...

    def contents(self, cancel: Event) -> tuple[ResourceChange, ...]:
        if self.name in self.world.unreachable:
            raise OperationError(f"{self.name} does not answer")
        return (ResourceChange(f"thing.{self.name}", Action.DELETE),) if self.exists() else ()

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        if self.name in self.world.failing:
            raise OperationError(f"{self.name} holds on", remedy="let go")
        gone = self.contents(cancel)
        with self.world.lock:
            self.world.standing.discard(self.name)
            self.world.gone.append(self.name)
        return gone


def down(world: World, *, yes: bool = True, prepared: list[str] | None = None) -> Report:
    drivers = {stage.name: Standing(stage.name, world) for stage in STAGES}
    steps = prepared if prepared is not None else []
    destruction = Destruction(
        drivers, Silent(), Event(), time.monotonic, prepare=lambda: steps.append("prepared")
    )
    return destruction.down(STAGES, destruction.contents(STAGES), lambda contents: yes)


def test_what_cannot_be_asked_is_shown_and_keeps_only_what_it_stands_on() -> None:
    world, shown = World(unreachable={"storage"}), list[Contents]()
    drivers = {stage.name: Standing(stage.name, world) for stage in STAGES}
    destruction = Destruction(drivers, Silent(), Event(), time.monotonic)

    def approve(contents: Contents) -> bool:
        shown.append(contents)
        return True

    report = destruction.down(STAGES, destruction.contents(STAGES), approve)

    assert "storage does not answer" in shown[0]["storage"][0].address
    found = {result.name: result.status for result in report.results}
    assert found["storage"] is Status.FAILED
    assert found["eks"] is found["network"] is Status.SKIPPED
    assert found["search"] is found["autoscaler"] is Status.DESTROYED


def test_an_interrupt_before_the_question_asks_and_deletes_nothing() -> None:
    world, cancel = World(), Event()
    drivers = {stage.name: Standing(stage.name, world) for stage in STAGES}
    destruction = Destruction(drivers, Silent(), cancel, time.monotonic)
    contents = destruction.contents(STAGES)
    cancel.set()

    with pytest.raises(RunInterruptedError):
        destruction.contents(STAGES)
    with pytest.raises(RunInterruptedError):
        destruction.down(STAGES, contents, lambda contents: True)
    assert world.gone == []


def test_a_crash_puts_down_what_runs_beside_it() -> None:
    cancel = Event()
    drivers = {stage.name: Standing(stage.name, World()) for stage in STAGES}
    destruction = Destruction(drivers, Silent(), cancel, time.monotonic)

    def crash(watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        raise KeyError("a mistake")

    drivers["logging"].destroy = crash  # type: ignore[method-assign]

    with pytest.raises(KeyError):
        destruction.down(STAGES, destruction.contents(STAGES), lambda contents: True)
    assert cancel.is_set()


def position(order: Sequence[str], name: str) -> int:
    return order.index(name)


def test_everything_goes_after_what_needs_it_and_access_last_before_eks() -> None:
    world = World()

    report = down(world)

    assert report.ok
    assert {result.status for result in report.results} == {Status.DESTROYED}
    for stage in STAGES:
        for need in stage.needs:
            assert position(world.gone, stage.name) < position(world.gone, need)
    cluster = [name for name in world.gone if name not in ("search", "index", "network")]
    assert cluster[-2:] == ["access", "eks"]
    assert world.gone[-1] == "network"


def test_nothing_goes_without_approval() -> None:
    world, prepared = World(), list[str]()

    with pytest.raises(RefusedError):
        down(world, yes=False, prepared=prepared)

    assert world.gone == []
    assert prepared == []


def test_nothing_is_asked_where_nothing_stands() -> None:
    assert down(World(standing=set()), yes=False).ok


def test_what_a_stage_stands_on_stays_when_it_cannot_be_destroyed() -> None:
    world = World(failing={"autoscaler"})

    report = down(world)

    found = {result.name: result for result in report.results}
    assert not report.ok
    assert found["autoscaler"].status is Status.FAILED
    assert found["autoscaler"].remedy == "let go"
    assert found["eks"].status is found["network"].status is Status.SKIPPED
    assert "autoscaler" in found["access"].error
    assert found["search"].status is Status.DESTROYED, "what does not carry it goes on"

    world.failing.clear()
    assert down(world).ok
    assert world.standing == set()


def test_claims_are_released_once_nothing_mounts_them_and_before_their_driver_goes() -> None:
    world, seen = World(), list[list[str]]()
    drivers = {stage.name: Standing(stage.name, world) for stage in STAGES}
    destruction = Destruction(
        drivers, Silent(), Event(), time.monotonic, prepare=lambda: seen.append(list(world.gone))
    )

    assert destruction.down(STAGES, destruction.contents(STAGES), lambda contents: True).ok

    assert seen == [["services"]]


def test_claims_of_services_that_did_not_go_are_left_alone() -> None:
    world, prepared = World(failing={"services"}), list[str]()

    report = down(world, prepared=prepared)

    assert prepared == []
    found = {result.name: result for result in report.results}
    assert found["services"].status is Status.FAILED
    assert found["storage"].status is found["eks"].status is Status.SKIPPED
    assert "services still stands" in found["service-secrets"].error
    # What they do not stand on goes all the same.
    assert found["logging"].status is Status.DESTROYED
