"""What an interrupted run left tainted: waited for, untainted or shown, never replaced by surprise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest

from cali_infra.adapters.terraform import Terraform
from cali_infra.adapters.terraform_state import StateResource, StateSnapshot
from cali_infra.core.progress import Silent
from cali_infra.core.recovery import Health, Recovery
from cali_infra.errors import OperationError, RunInterruptedError

FOLDER = Path("/nowhere")
CLUSTER = StateResource(
    "aws_eks_cluster.this", "aws_eks_cluster", "this", "managed", tainted=True, attributes={"name": "cali"}
)
ROLE = StateResource("aws_iam_role.nodes", "aws_iam_role", "nodes", "managed", tainted=True)


class Untainting:
    """The Terraform door as far as a repair uses it."""

    def __init__(self) -> None:
        self.untainted: list[str] = []

    def untaint(self, folder: Path, address: str) -> None:
        self.untainted.append(address)


class Words(Silent):
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str, *, stage: str = "") -> None:
        self.notes.append(text)

    def warn(self, text: str, *, stage: str = "") -> None:
        self.warnings.append(text)


class Watching:
    """AWS that answers one health after the other, the last for ever, on a clock that it moves."""

    def __init__(self, *healths: Health) -> None:
        self.healths, self.seconds, self.asked = list(healths), 0.0, 0

    def inspect(self, kind: str, attributes: Mapping[str, Any]) -> Health:
        assert (kind, attributes) == ("aws_eks_cluster", {"name": "cali"})
        self.asked += 1
        self.seconds += 60
        return self.healths.pop(0) if len(self.healths) > 1 else self.healths[0]

    def clock(self) -> float:
        return self.seconds


def repair(
    aws: Watching, *resources: StateResource, cancel: Event | None = None
) -> tuple[bool, Untainting, Words]:
    terraform, words = Untainting(), Words()
    recovery = Recovery(cast(Terraform, terraform), aws.inspect, aws.clock, patience=600, interval=0)
    snapshot = StateSnapshot(exists=True, resources=resources)
    changed = recovery.repair("eks", FOLDER, snapshot, words, cancel or Event())
    return changed, terraform, words


def test_a_cluster_that_is_healthy_by_now_is_untainted_and_said() -> None:
    changed, terraform, words = repair(Watching(Health.HEALTHY), CLUSTER)

    assert changed
    assert terraform.untainted == ["aws_eks_cluster.this"]
    assert "healthy: untainted" in words.notes[0]


def test_a_cluster_that_is_still_creating_is_waited_for() -> None:
    aws = Watching(Health.CREATING, Health.CREATING, Health.HEALTHY)

    changed, terraform, words = repair(aws, CLUSTER)

    assert changed
    assert aws.asked == 3
    assert terraform.untainted == ["aws_eks_cluster.this"]
    assert "waiting for it" in words.notes[0]


@pytest.mark.parametrize("health", [Health.FAILED, Health.UNKNOWN])
def test_one_that_failed_stays_tainted_and_is_shown(health: Health) -> None:
    changed, terraform, words = repair(Watching(health), CLUSTER)

    assert not changed
    assert terraform.untainted == []
    assert "--allow-replace 'aws_eks_cluster.this'" in words.warnings[0]


def test_one_that_is_gone_is_left_to_the_refresh() -> None:
    changed, terraform, words = repair(Watching(Health.GONE), CLUSTER)

    assert (changed, terraform.untainted, words.warnings) == (False, [], [])


def test_what_is_cheap_is_left_to_terraform() -> None:
    aws = Watching(Health.HEALTHY)

    changed, terraform, _ = repair(aws, ROLE)

    assert (changed, terraform.untainted, aws.asked) == (False, [], 0)


def test_waiting_ends_with_an_interrupt() -> None:
    cancel = Event()
    cancel.set()

    with pytest.raises(RunInterruptedError):
        repair(Watching(Health.CREATING), CLUSTER, cancel=cancel)


def test_waiting_ends_when_patience_does() -> None:
    with pytest.raises(OperationError, match="still being created after 11 minutes"):
        repair(Watching(Health.CREATING), CLUSTER)
