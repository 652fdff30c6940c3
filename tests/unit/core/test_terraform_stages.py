"""One stack's stage over a Terraform door that only remembers: completeness, plan files, inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from cali_infra.adapters.terraform import PlanOutcome, Terraform
from cali_infra.adapters.terraform_state import StateResource, StateSnapshot
from cali_infra.core.progress import Silent
from cali_infra.core.recovery import Health, Recovery
from cali_infra.core.stacks import TerraformStage
from cali_infra.core.stages import BY_NAME
from cali_infra.core.workspace import Workspace
from cali_infra.errors import OperationError, PreconditionError
from cali_infra.plans import Action, ResourceChange

HCL = """
variable "size" { type = number }
# output "no" {}
output "vpc_id" { value = 1 }
output "zones" {
  value = { output = "none" }
}
"""
VPC = StateResource("aws_vpc.this", "aws_vpc", "this", "managed")
CHANGE = PlanOutcome((ResourceChange("aws_vpc.this", Action.CREATE),))


class Door:
    """The Terraform door as far as a stage uses it; each plan leaves a file, as the real one does."""

    def __init__(self, state: StateSnapshot, outcome: PlanOutcome = CHANGE) -> None:
        self.now, self.outcome = state, outcome
        self.failing = False
        self.on_plan: Callable[[], None] = lambda: None
        self.did: list[str] = []

    def needs_init(self, folder: Path) -> bool:
        return False

    def state(self, folder: Path) -> StateSnapshot:
        return self.now

    def plan(self, folder: Path, *, out: Path, destroy: bool, **rest: object) -> PlanOutcome:
        self.did.append("plan")
        out.write_text("secrets in clear")
        self.on_plan()
        if self.failing:
            raise OperationError("no plan")
        return self.outcome

    def apply(self, folder: Path, plan: Path, **rest: object) -> None:
        assert plan.exists()
        self.did.append("apply")


def stage(
    tmp_path: Path, door: Door, variables: Callable[[], Mapping[str, object]] = lambda: {"size": 1}
) -> TerraformStage:
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.tf").write_text(HCL)
    workspace = Workspace(tmp_path / ".cali" / "default")
    workspace.create()
    terraform = cast(Terraform, door)
    made = TerraformStage(
        BY_NAME["network"],
        terraform=terraform,
        workspace=workspace,
        source=source,
        backend={"local": {"path": "terraform.tfstate"}},
        variables=variables,
        needs=(),
        recovery=Recovery(terraform, lambda kind, attributes: Health.HEALTHY, lambda: 0.0),
    )
    made.open(Event())
    return made


def snapshot(*resources: StateResource, serial: int = 1, **outputs: Any) -> StateSnapshot:
    return StateSnapshot(True, serial, "lineage", "1.11", outputs, resources=resources)


def plan_files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / ".cali" / "default" / "plans").iterdir())


@pytest.mark.parametrize(
    ("outputs", "complete"), [({}, False), ({"vpc_id": "v"}, False), ({"vpc_id": "v", "zones": {}}, True)]
)
def test_a_stack_that_stopped_half_way_is_not_complete(
    tmp_path: Path, outputs: Mapping[str, Any], complete: bool
) -> None:
    found = stage(tmp_path, Door(snapshot(VPC, **outputs)))

    assert found.exists()
    assert found.complete() is complete


def test_what_somebody_deleted_already_can_be_destroyed(tmp_path: Path) -> None:
    door = Door(snapshot(VPC), PlanOutcome())

    gone = stage(tmp_path, door).destroy(Silent(), Event())

    assert [change.address for change in gone] == ["aws_vpc.this"]
    assert door.did == ["plan", "apply"]
    assert plan_files(tmp_path) == []


def test_a_destroy_that_cannot_be_planned_leaves_no_plan_file_and_keeps_the_state(tmp_path: Path) -> None:
    door = Door(snapshot(VPC))
    door.failing = True
    found = stage(tmp_path, door)

    with pytest.raises(OperationError):
        found.destroy(Silent(), Event())

    assert plan_files(tmp_path) == []
    assert found.folder.is_dir()


def test_a_plan_is_made_on_the_state_that_its_variables_were_read_from(tmp_path: Path) -> None:
    door = Door(snapshot(VPC, size=1))
    found: list[TerraformStage] = []
    made = stage(tmp_path, door, lambda: {"size": found[0].outputs()["size"]})
    found.append(made)
    rendered: list[str] = []

    def somebody_applies() -> None:
        rendered.append((made.folder / "terraform.tfvars.json").read_text())
        door.now = snapshot(VPC, serial=2, size=2)

    door.on_plan = somebody_applies

    made.plan(Silent(), Event())

    assert [json.loads(text) for text in rendered] == [{"size": 1}, {"size": 2}]


def test_a_state_that_never_rests_is_said(tmp_path: Path) -> None:
    door = Door(snapshot(VPC))
    serials = iter(range(2, 9))

    def somebody_applies() -> None:
        door.now = snapshot(VPC, serial=next(serials))

    door.on_plan = somebody_applies

    with pytest.raises(OperationError, match="changes faster"):
        stage(tmp_path, door).plan(Silent(), Event())


def test_a_state_that_could_not_be_written_is_never_thrown_away(tmp_path: Path) -> None:
    made = stage(tmp_path, Door(StateSnapshot()))
    unsaved = made.folder / "errored.tfstate"
    unsaved.write_text("all that is known of a VPC")

    with pytest.raises(PreconditionError, match="could not write its state"):
        made.contents(Event())
    with pytest.raises(PreconditionError):
        made.destroy(Silent(), Event())

    assert unsaved.exists()
