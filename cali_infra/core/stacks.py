"""A stage that is a Terraform stack: its copy, its variables, its state, its plan file.

How Terraform is run is the adapter's business; what the variables are worth is `inputs.py`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from cali_infra.core import tfvars
from cali_infra.core.progress import Progress
from cali_infra.core.stages import Stage
from cali_infra.core.workspace import VARIABLES, Workspace
from cali_infra.errors import OperationError
from cali_infra.plans import Action, ResourceChange, StagePlan

if TYPE_CHECKING:
    from cali_infra.adapters.terraform import Terraform
    from cali_infra.adapters.terraform_events import Event as TerraformEvent
    from cali_infra.adapters.terraform_state import StateSnapshot
    from cali_infra.core.recovery import Recovery
    from cali_infra.core.settings import Settings

LOCAL_STATE = "terraform.tfstate"
# Where Terraform leaves a state that it could not write.
# Each further one means that somebody else has applied the same stack in the meantime.
_ATTEMPTS = 3
Variables = Callable[[], Mapping[str, object]]


@dataclass(frozen=True)
class StackPlan(StagePlan):
    """A plan that lies in a file. Outputs may change where no resource does, and so may the state alone:
    `bookkeeping` is what is moved, imported or forgotten, in words."""

    outputs_changed: bool = False
    bookkeeping: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.changes or self.outputs_changed or self.bookkeeping)


class TerraformStage:
    """The driver of one stack.

    `needs` are the stacks whose outputs its variables are made from.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        terraform: Terraform,
        workspace: Workspace,
        source: Path,
        backend: Mapping[str, object],
        variables: Variables,
        needs: Sequence[TerraformStage],
        recovery: Recovery,
    ) -> None:
        self.stage = stage
        self._terraform = terraform
        self._workspace = workspace
        self._source = source
        self._backend = backend
        self._variables = variables
        self._needs = tuple(needs)
        self._recovery = recovery
        self._snapshot: StateSnapshot | None = None

    @property
    def folder(self) -> Path:
        """The stack's copy in the workspace."""
        return self._workspace.stack(self.stage.name)

    @property
    def _plan_file(self) -> Path:
        return self._workspace.plans / f"{self.stage.name}.tfplan"

    def open(self, cancel: Event) -> None:
        folder = self._workspace.copy_stack(self.stage.name, self._source, self._backend)
        if self._terraform.needs_init(folder):
            self._terraform.init(folder, cancel=cancel)
        self._snapshot = self._terraform.state(folder)

    @property
    def snapshot(self) -> StateSnapshot:
        """The state as it was when it was last read: at `open`, or after an apply."""
        if self._snapshot is None:
            self._snapshot = self._terraform.state(self.folder)
        return self._snapshot

    def outputs(self) -> Mapping[str, Any]:
        """The stack's outputs by name; empty where it was never applied."""
        return self.snapshot.outputs

    def exists(self) -> bool:
        return not self.snapshot.empty

    def complete(self) -> bool:
        """Applied at least once to its end: every output that the stack declares has a value.

        One that stopped half way has some of them: Terraform writes each as soon as it is known.
        """
        outputs = self.outputs()
        return bool(outputs) and tfvars.declared_outputs(self.folder) <= outputs.keys()

    def missing(self) -> tuple[str, ...]:
        return tuple(need.stage.name for need in self._needs if not need.complete())

    def fingerprint(self) -> str:
        rendered = tfvars.render(self.folder, self._variables())
        return hashlib.sha256(tfvars.encode(rendered)).hexdigest()

    def plan(self, watch: Progress, cancel: Event) -> StackPlan:
        """Render the variables, look after what an interrupted run left behind, plan into a private file.

        The variables may be made from the stack's own outputs (who has access): a plan that was made on a newer
        state than they would undo what somebody else has just applied, so it is made again.
        """
        for _ in range(_ATTEMPTS):
            self._render()
            if self._recovery.repair(self.stage.name, self.folder, self.snapshot, watch, cancel):
                self._snapshot = None
                self._render()
            read = self.snapshot
            plan = self._make_plan(watch, cancel, destroy=False)
            self._snapshot = self._terraform.state(self.folder)
            if (self._snapshot.lineage, self._snapshot.serial) == (read.lineage, read.serial):
                return plan
            watch.note("somebody else has just applied this stack: planning again", stage=self.stage.name)
        raise OperationError(
            f"{self.stage.name}: its state changes faster than it can be planned",
            remedy="wait until the others have ended, then run the command again",
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        try:
            self._terraform.apply(self.folder, self._plan_file, watch=self._listener(watch), cancel=cancel)
        finally:
            self.discard()
            self._snapshot = None

    def discard(self) -> None:
        self._plan_file.unlink(missing_ok=True)

    def contents(self, cancel: Event) -> tuple[ResourceChange, ...]:
        """The resources in the state.

        Raises PreconditionError where an earlier run could not write it: what it made is in that file alone, and
        would be forgotten with the folder.
        """
        from cali_infra.adapters.terraform import refuse_unsaved_state

        refuse_unsaved_state(self.folder)
        return tuple(ResourceChange(found.address, Action.DELETE) for found in self.snapshot.managed)

    def destroy(self, watch: Progress, cancel: Event) -> tuple[ResourceChange, ...]:
        """Destroy what the state holds, then remove the copy with its variables and its empty state."""
        gone = self.contents(cancel)
        if self.exists():
            self._render()
            try:
                self._make_plan(watch, cancel, destroy=True)
                self.apply(StagePlan(self.stage.name), watch, cancel)
            finally:
                # Terraform writes a plan file also where planning fails.
                self.discard()
        self._workspace.remove_stack(self.stage.name)
        return gone

    def _render(self) -> None:
        tfvars.write(self.folder / VARIABLES, tfvars.render(self.folder, self._variables()))

    def _make_plan(self, watch: Progress, cancel: Event, *, destroy: bool) -> StackPlan:
        outcome = self._terraform.plan(
            self.folder, out=self._plan_file, destroy=destroy, watch=self._listener(watch), cancel=cancel
        )
        plan = StackPlan(
            self.stage.name,
            outcome.changes,
            (*outcome.bookkeeping, *(str(warning) for warning in outcome.warnings)),
            outputs_changed=outcome.outputs_changed,
            bookkeeping=outcome.bookkeeping,
        )
        # To destroy what somebody has deleted already changes nothing but the state, which is to be emptied.
        if plan.empty and not destroy:
            self.discard()
        return plan

    def _listener(self, watch: Progress) -> Callable[[TerraformEvent], None]:
        from cali_infra.adapters import terraform_events as events

        name = self.stage.name

        def listen(event: TerraformEvent) -> None:
            match event:
                case events.HookStarted(address, action) if action != "read":
                    watch.resource(name, address, action, "started", 0.0)
                case events.HookProgress(address, action, elapsed) if action != "read":
                    watch.resource(name, address, action, "progress", elapsed)
                case events.HookComplete(address, action, elapsed) if action != "read":
                    watch.resource(name, address, action, "complete", elapsed)
                case events.HookErrored(address, action, elapsed):
                    watch.resource(name, address, action, "errored", elapsed)
                case events.Interrupting(message):
                    watch.note(message, stage=name)
                case _:
                    pass

        return listen


def state_key(settings: Settings, stack: str) -> str:
    """Where in the bucket a stack's state lies."""
    return f"{settings.state.prefix}/{settings.environment}/{stack}.tfstate"


def backend(settings: Settings, stack: str) -> dict[str, object]:
    """The backend block of a stack: a local file beside it, or S3 with Terraform's own lock file."""
    state = settings.state
    if state.backend == "local":
        return {"local": {"path": LOCAL_STATE}}
    s3: dict[str, object] = {
        "bucket": state.bucket,
        "key": state_key(settings, stack),
        "region": state.region or settings.region,
        "encrypt": True,
        "use_lockfile": True,
    }
    if state.kms_key_id:
        s3["kms_key_id"] = state.kms_key_id
    if settings.profile:
        s3["profile"] = settings.profile
    return {"s3": s3}
