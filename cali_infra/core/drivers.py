"""What deploy and destroy ask of a stage, whatever kind it is.

Terraform stages are in `stacks.py`, those of the Kubernetes and OpenSearch APIs in `cluster_stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Protocol

from cali_infra.core.progress import Progress
from cali_infra.core.stages import Stage
from cali_infra.plans import ResourceChange, StagePlan


class StageDriver(Protocol):
    """One stage's work. Calls for one stage come one after the other, for several at the same time."""

    stage: Stage

    def open(self, cancel: Event) -> None:
        """Get ready to be asked: copy, initialise, read the state. Called once, first."""

    def exists(self) -> bool:
        """Whether the stage was ever applied here."""

    def complete(self) -> bool:
        """Whether it was applied to its end at least once, so that what needs it can go on."""

    def missing(self) -> tuple[str, ...]:
        """The stages whose outputs it needs and which were never applied."""

    def fingerprint(self) -> str:
        """Of everything that a plan is made from; a plan holds for as long as this stays."""

    def plan(self, watch: Progress, cancel: Event) -> StagePlan:
        """What applying would change; writes nothing outside the workspace."""

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Do exactly what the plan says."""

    def discard(self) -> None:
        """Delete what a plan left behind."""

    def contents(self, cancel: Event) -> tuple[ResourceChange, ...]:
        """What `destroy` would delete, by name, without asking the outside world more than it must."""

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        """Take the stage away and return what went."""


Drivers = Mapping[str, StageDriver]
