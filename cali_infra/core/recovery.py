"""What an interrupted apply left tainted, looked at before the next plan.

Terraform marks what was in flight as tainted and would replace it. For what is slow or dear that is the wrong
answer: still creating is waited for, healthy is untainted, failed is shown and left to `--allow-replace`.
Source: facts, part Terraform; design, exit code 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from cali_infra.core.guard import GUARDED_TYPES
from cali_infra.core.progress import Progress
from cali_infra.errors import OperationError, RunInterruptedError

if TYPE_CHECKING:
    from cali_infra.adapters.terraform import Terraform
    from cali_infra.adapters.terraform_state import StateSnapshot


class Health(Enum):
    """How a resource stands, asked from AWS itself."""

    CREATING = "creating"
    HEALTHY = "healthy"
    FAILED = "failed"
    GONE = "gone"
    UNKNOWN = "unknown"


Inspect = Callable[[str, Mapping[str, Any]], Health]


@dataclass(frozen=True)
class Recovery:
    """Repairs what is tainted. `inspect(type, attributes)` asks AWS; `wait(cancel, seconds)` sleeps and
    returns early when the run is interrupted. `patience` is in seconds."""

    terraform: Terraform
    inspect: Inspect
    clock: Callable[[], float]
    patience: float = 2400.0
    interval: float = 5.0

    def repair(
        self, stage: str, folder: Path, snapshot: StateSnapshot, watch: Progress, cancel: Event
    ) -> bool:
        """Look at every tainted resource of the state; returns whether the state was changed.

        Raises OperationError when something is still being created after `patience`.
        """
        changed = False
        for resource in snapshot.resources:
            if not resource.tainted or resource.type not in GUARDED_TYPES:
                continue
            health = self._settle(stage, resource.address, resource.type, resource.attributes, watch, cancel)
            if health is Health.HEALTHY:
                self.terraform.untaint(folder, resource.address)
                watch.note(
                    f"{resource.address} was left tainted by an interrupted run and is healthy: untainted",
                    stage=stage,
                )
                changed = True
            elif health is not Health.GONE:
                watch.warn(
                    f"{resource.address} was left tainted by an interrupted run and is {health.value}: "
                    f"it is replaced only with --allow-replace '{resource.address}'",
                    stage=stage,
                )
        return changed

    def _settle(
        self,
        stage: str,
        address: str,
        kind: str,
        attributes: Mapping[str, Any],
        watch: Progress,
        cancel: Event,
    ) -> Health:
        started = self.clock()
        health = self.inspect(kind, attributes)
        if health is Health.CREATING:
            watch.note(f"{address} is still being created by an interrupted run: waiting for it", stage=stage)
        while health is Health.CREATING:
            elapsed = self.clock() - started
            if elapsed > self.patience:
                raise OperationError(
                    f"{address} is still being created after {elapsed / 60:.0f} minutes",
                    remedy="look at it in the AWS console, then run the command again",
                )
            watch.resource(stage, address, "create", "progress", elapsed)
            if cancel.wait(self.interval):
                raise RunInterruptedError(f"interrupted while waiting for {address}")
            health = self.inspect(kind, attributes)
        return health
