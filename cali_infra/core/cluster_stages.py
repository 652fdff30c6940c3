"""The stages that Terraform does not own: manifests in the cluster, and the index of the search domain.

They can be worked on only once the stacks below them exist: a `ClusterStage` makes its work when it is asked,
from the outputs that are there by then. What the work is stands in `storage_class.py`, `fluent_bit.py`,
`service_secrets.py` and `index.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Any, Protocol

from cali_infra.core.progress import Progress
from cali_infra.core.stacks import TerraformStage
from cali_infra.core.stages import Stage
from cali_infra.plans import ResourceChange, StagePlan


class Work(Protocol):
    """What a stage does once it can reach its cluster or domain."""

    def exists(self) -> bool:
        """Whether it was ever applied there."""

    def plan(self, watch: Progress) -> StagePlan:
        """What applying would change; nothing is written."""

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Write what differs and wait until it works."""

    def contents(self) -> tuple[ResourceChange, ...]:
        """What `destroy` would delete."""

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        """Delete it and return what went."""


class ClusterStage:
    """The driver of one stage that works over an API.

    `stacks` are all the stacks that it needs, directly or not; `below` the stages of its own kind.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        stacks: Sequence[TerraformStage],
        below: Sequence[ClusterStage],
        make: Callable[[], Work],
    ) -> None:
        self.stage = stage
        self._stacks = tuple(stacks)
        self._below = tuple(below)
        self._make = make
        self._work: tuple[str, Work] | None = None

    def open(self, cancel: Event) -> None:
        """Nothing to get ready: the stacks are opened by their own drivers."""

    def exists(self) -> bool:
        return not self._unbuilt() and self._current().exists()

    def complete(self) -> bool:
        return self.exists()

    def missing(self) -> tuple[str, ...]:
        unbuilt = self._unbuilt()
        if unbuilt:
            return tuple(need for need in self.stage.needs if need in unbuilt) or unbuilt
        return tuple(stage.stage.name for stage in self._below if not stage.exists())

    def fingerprint(self) -> str:
        outputs: Mapping[str, Any] = {stack.stage.name: dict(stack.outputs()) for stack in self._stacks}
        return hashlib.sha256(json.dumps(outputs, sort_keys=True, default=str).encode()).hexdigest()

    def plan(self, watch: Progress, cancel: Event) -> StagePlan:
        return self._current().plan(watch)

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        self._current().apply(plan, watch, cancel)

    def discard(self) -> None:
        """A plan of this kind lies in memory only."""

    def contents(self, cancel: Event) -> tuple[ResourceChange, ...]:
        return () if self._unbuilt() else self._current().contents()

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        return () if self._unbuilt() else self._current().destroy(watch, cancel)

    def _unbuilt(self) -> tuple[str, ...]:
        return tuple(stack.stage.name for stack in self._stacks if not stack.complete())

    def _current(self) -> Work:
        """The work, made anew when an output has changed (another endpoint, say)."""
        fingerprint = self.fingerprint()
        if self._work is None or self._work[0] != fingerprint:
            self._work = (fingerprint, self._make())
        return self._work[1]
