"""What a plan and a result are, for every kind of stage: the words that core, ui and JSON share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Action(Enum):
    """What would be done to one resource or object."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True)
class ResourceChange:
    """One change: `address` as Terraform or the API names it, `fields` what differs, for a person."""

    address: str
    action: Action
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagePlan:
    """What applying a stage would change. A replacement counts as one added and one destroyed.

    `decided` are addresses whose deletion was decided before, such as an access that has ended: no guard asks.
    """

    stage: str
    changes: tuple[ResourceChange, ...] = ()
    warnings: tuple[str, ...] = ()
    decided: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Nothing would be written."""
        return not self.changes

    @property
    def add(self) -> int:
        return sum(c.action in (Action.CREATE, Action.REPLACE) for c in self.changes)

    @property
    def change(self) -> int:
        return sum(c.action is Action.UPDATE for c in self.changes)

    @property
    def destroy(self) -> int:
        return sum(c.action in (Action.DELETE, Action.REPLACE) for c in self.changes)

    @property
    def only_creates(self) -> bool:
        return all(c.action is Action.CREATE for c in self.changes)


class Status(Enum):
    """How a stage ended in `up` or `down`, or how it stands in `plan`."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"
    DESTROYED = "destroyed"
    CHANGES = "changes"
    PENDING = "pending"


@dataclass(frozen=True)
class StageResult:
    """One line of a report; `seconds` is wall time, `error` empty unless failed or skipped,
    `refused` a failure of approval and not of the work. `changes` and `warnings` are its plan's."""

    name: str
    status: Status
    seconds: float = 0.0
    add: int = 0
    change: int = 0
    destroy: int = 0
    error: str = ""
    remedy: str = ""
    refused: bool = False
    changes: tuple[ResourceChange, ...] = field(default=())
    warnings: tuple[str, ...] = ()
