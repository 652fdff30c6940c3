"""A stage that is a Terraform stack: its copy, its variables, its state, its plan file.

How Terraform is run is the adapter's business; what the variables are worth is `inputs.py`'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from cali_infra import files
from cali_infra.core import tfvars
from cali_infra.core.progress import Progress
from cali_infra.core.stages import Stage
from cali_infra.core.workspace import VARIABLES, Workspace
from cali_infra.errors import OperationError, StalePlanError
from cali_infra.plans import Action, ResourceChange, StagePlan

if TYPE_CHECKING:
    from cali_infra.adapters.terraform import Terraform
    from cali_infra.adapters.terraform_events import Event as TerraformEvent
    from cali_infra.adapters.terraform_state import StateSnapshot
    from cali_infra.core.drivers import StageDriver
    from cali_infra.core.recovery import Recovery
    from cali_infra.core.settings import Settings

LOCAL_STATE = "terraform.tfstate"
# Import blocks of one plan; what an interrupted run left of it goes when the stack is copied anew.
_IMPORTS = "cali_imports.tf.json"
# Each further one means that somebody else has applied the same stack in the meantime.
_ATTEMPTS = 3
Variables = Callable[[], Mapping[str, object]]


@dataclass(frozen=True)
class Import:
    """What exists already and is to be put under management: its address, and the provider's name for it."""

    address: str
    identifier: str


@dataclass(frozen=True)
class Scope:
    """A part of a stack: only these addresses and what they need are planned; `replace` are made anew."""

    targets: tuple[str, ...]
    replace: tuple[str, ...] = ()


class HeldTurn(Protocol):
    """A turn that one has, and may lose."""

    def check(self) -> None:
        """Raises LeaseLostError when it is somebody else's by now."""


@dataclass(frozen=True)
class Contention:
    """How a stack is written that several operators change at the same time, each knowing but a part.

    `turn` keeps the others out for as long as its block lasts; None is for who is alone, or has its turn already.
    `imports` tells what is there already that the plan is about to make, `decided` the addresses whose deletion
    needs no guard.
    """

    turn: Callable[[Progress, Event], AbstractContextManager[HeldTurn]] | None = None
    imports: Callable[[], Sequence[Import]] = tuple
    decided: Callable[[], Collection[str]] = tuple


ALONE = Contention()


@dataclass(frozen=True)
class StackPlan(StagePlan):
    """A plan that lies in a file. Outputs may change where no resource does, and so may the state alone:
    `bookkeeping` is what is moved, imported or forgotten, in words."""

    outputs_changed: bool = False
    bookkeeping: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.changes or self.outputs_changed or self.bookkeeping)


@dataclass(frozen=True)
class Drift:
    """How what is there stands against a stack: `planned` is what `up` would do, `outside` what of that puts back
    what somebody has changed outside, by address with the attributes (none: the resource is gone), and `moved` what
    only the state or an output would gain.

    What the stack leaves to others (the number of nodes, to the autoscaler) differs all the time and is in neither.
    """

    planned: tuple[ResourceChange, ...] = ()
    outside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    moved: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """`up` would change nothing."""
        return not (self.planned or self.moved)


class TerraformStage:
    """The driver of one stack.

    `needs` are the stages that have to stand before it. `witness` looks on for as long as something is applied.
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
        needs: Sequence[StageDriver],
        recovery: Recovery,
        contention: Contention = Contention(),
        witness: Callable[[Progress], AbstractContextManager[None]] = lambda watch: nullcontext(),
    ) -> None:
        self.stage = stage
        self._terraform = terraform
        self._workspace = workspace
        self._source = source
        self._backend = backend
        self._variables = variables
        self._needs = tuple(needs)
        self._recovery = recovery
        self._contention = contention
        self._witness = witness
        self._snapshot: StateSnapshot | None = None
        self._planned_on: tuple[str, int] | None = None

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

    def plan(self, watch: Progress, cancel: Event, scope: Scope | None = None) -> StackPlan:
        """Render the variables, look after what an interrupted run left behind, plan into a private file.

        The variables may be made from the stack's own outputs (who has access): a plan that was made on a newer
        state than they would undo what somebody else has just applied, so it is made again. With a `scope` only
        that part is planned.
        """
        for _ in range(_ATTEMPTS):
            self._render()
            if self._recovery.repair(self.stage.name, self.folder, self.snapshot, watch, cancel):
                self._snapshot = None
                self._render()
            read = self.snapshot
            with self._imports():
                plan = self._make_plan(watch, cancel, destroy=False, scope=scope)
            self._snapshot = self._terraform.state(self.folder)
            self._planned_on = _version(self._snapshot)
            if self._planned_on == _version(read):
                return plan
            watch.note("somebody else has just applied this stack: planning again", stage=self.stage.name)
        raise OperationError(
            f"{self.stage.name}: its state changes faster than it can be planned",
            remedy="wait until the others have ended, then run the command again",
        )

    def apply(self, plan: StagePlan, watch: Progress, cancel: Event) -> None:
        """Do what the plan says, alone with the state.

        Raises StalePlanError when the state has moved on and what is to be done now was not approved.
        """
        if self._contention.turn is None:
            self._apply(watch, cancel)
            return
        with self._contention.turn(watch, cancel) as turn:
            if self._still_fits(plan, watch, cancel):
                turn.check()
                self._apply(watch, cancel)

    def _apply(self, watch: Progress, cancel: Event) -> None:
        try:
            with self._witness(watch):
                self._terraform.apply(
                    self.folder, self._plan_file, watch=self._listener(watch), cancel=cancel
                )
        finally:
            self.discard()
            self._snapshot = None

    def _still_fits(self, plan: StagePlan, watch: Progress, cancel: Event) -> bool:
        """Plan again where the state has moved on since; False when nothing is left to do."""
        if self._planned_on == _version(self._terraform.state(self.folder)):
            return True
        watch.note("somebody else has applied this stack since: planning again", stage=self.stage.name)
        self._snapshot = None
        fresh = self.plan(watch, cancel)
        approved = {(change.address, change.action) for change in plan.changes}
        strange = [c.address for c in fresh.changes if (c.address, c.action) not in approved]
        if strange:
            raise StalePlanError(
                f"{self.stage.name}: the state has moved on, and now {', '.join(strange)} would change as well",
                remedy="run the command again: it shows what is to be done now",
            )
        return not fresh.empty

    def drift(self, cancel: Event) -> Drift:
        """Compare the stack with what is there, without a lock; nothing is repaired or written but the variables.

        Raises what `plan` raises, and nothing is kept of the plan.
        """
        self._render()
        file = self._workspace.plans / f"{self.stage.name}.drift.tfplan"
        try:
            outcome = self._terraform.plan(self.folder, out=file, lock=False, cancel=cancel)
            outside = self._terraform.undoes(self.folder, file) if outcome.changes else {}
        finally:
            file.unlink(missing_ok=True)
        outputs = ("an output changes",) if outcome.outputs_changed and not outcome.changes else ()
        return Drift(outcome.changes, outside, (*outcome.bookkeeping, *outputs))

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
                self._planned_on = _version(self._terraform.state(self.folder))
                self.apply(StagePlan(self.stage.name), watch, cancel)
            finally:
                # Terraform writes a plan file also where planning fails.
                self.discard()
        self._workspace.remove_stack(self.stage.name)
        return gone

    def _render(self) -> None:
        tfvars.write(self.folder / VARIABLES, tfvars.render(self.folder, self._variables()))

    @contextmanager
    def _imports(self) -> Iterator[None]:
        """The import blocks, in the folder for as long as a plan is made: it carries them from then on."""
        found = self._contention.imports()
        path = self.folder / _IMPORTS
        if found:
            blocks = [{"to": one.address, "id": one.identifier} for one in found]
            files.write_private(path, json.dumps({"import": blocks}, indent=2).encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def _make_plan(
        self, watch: Progress, cancel: Event, *, destroy: bool, scope: Scope | None = None
    ) -> StackPlan:
        outcome = self._terraform.plan(
            self.folder,
            out=self._plan_file,
            destroy=destroy,
            targets=scope.targets if scope else (),
            replace=scope.replace if scope else (),
            watch=self._listener(watch),
            cancel=cancel,
        )
        plan = StackPlan(
            self.stage.name,
            outcome.changes,
            (*outcome.bookkeeping, *(str(warning) for warning in outcome.warnings)),
            decided=frozenset(self._contention.decided()),
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


def _version(state: StateSnapshot) -> tuple[str, int]:
    return state.lineage, state.serial


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
