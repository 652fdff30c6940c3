"""What the scheduler remembers: groups with their schedules, and how far each schedule has come.

Schedules are immutable values replaced whole; who replaces one that another has changed in the meantime is
told so by `Book.replace`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cali_infra.sandbox.aws.calls import Call
from cali_infra.sandbox.aws.errors import ServiceError

DEFAULT_GROUP = "default"
# What AWS takes where a schedule says nothing, and the most that it allows.
MAXIMUM_AGE = 86400
MAXIMUM_RETRIES = 185


@dataclass(frozen=True)
class Schedule:
    """A one-time schedule, due at `due`.

    `next_at` is when its target is called next, None when that is over, one way or the other; `failures` is
    how often that has failed.
    """

    name: str
    group: str
    account: str
    region: str
    description: str
    expression: str
    state: str
    target: Mapping[str, Any]
    created_at: datetime
    modified_at: datetime
    due: datetime
    next_at: datetime | None
    failures: int = 0

    @property
    def arn(self) -> str:
        """Its ARN."""
        return f"arn:aws:scheduler:{self.region}:{self.account}:schedule/{self.group}/{self.name}"

    @property
    def group_arn(self) -> str:
        """The ARN of its group, by which a role's trust policy knows it."""
        return group_arn(self.account, self.region, self.group)

    def document(self) -> dict[str, Any]:
        """The schedule as the API shows it."""
        return {
            "Arn": self.arn,
            "GroupName": self.group,
            "Name": self.name,
            "Description": self.description or None,
            "ScheduleExpression": self.expression,
            "ScheduleExpressionTimezone": "UTC",
            "State": self.state,
            "CreationDate": self.created_at,
            "LastModificationDate": self.modified_at,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "NONE",
            "Target": dict(self.target),
        }


@dataclass
class Group:
    """A schedule group with its schedules by name."""

    name: str
    arn: str
    created_at: datetime
    tags: dict[str, str]
    schedules: dict[str, Schedule] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The group as the API shows it."""
        return {
            "Arn": self.arn,
            "Name": self.name,
            "State": "ACTIVE",
            "CreationDate": self.created_at,
            "LastModificationDate": self.created_at,
        }


class Book:
    """Every group of every account and region; `lock` is held by whoever looks and then writes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._groups: dict[tuple[str, str], dict[str, Group]] = {}

    def groups(self, call: Call, now: datetime) -> dict[str, Group]:
        """The groups where a call goes, by name; the one called default is always there."""
        place = (call.account, call.region)
        if place not in self._groups:
            arn = group_arn(*place, DEFAULT_GROUP)
            self._groups[place] = {DEFAULT_GROUP: Group(DEFAULT_GROUP, arn, now, {})}
        return self._groups[place]

    def earliest(self) -> Schedule | None:
        """The enabled schedule whose target is to be called first."""
        with self.lock:
            waiting = [
                (schedule.next_at, schedule.arn, schedule)
                for groups in self._groups.values()
                for group in groups.values()
                for schedule in group.schedules.values()
                if schedule.next_at is not None and schedule.state == "ENABLED"
            ]
            return min(waiting, default=(None, "", None))[2]

    def replace(self, old: Schedule, new: Schedule) -> bool:
        """Put `new` in the place of `old`; False when that has been changed or deleted meanwhile."""
        with self.lock:
            group = self._groups.get((old.account, old.region), {}).get(old.group)
            if group is None or group.schedules.get(old.name) is not old:
                return False
            group.schedules[old.name] = new
            return True

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self._groups.clear()


def group_arn(account: str, region: str, name: str) -> str:
    """The ARN of a schedule group."""
    return f"arn:aws:scheduler:{region}:{account}:schedule-group/{name}"


def refusal(code: str, message: str) -> ServiceError:
    """An error of this service, whose description spells the message's key with a capital letter."""
    return ServiceError(code, message, {"Message": message})


def invalid(message: str) -> ServiceError:
    """A ValidationException."""
    return refusal("ValidationException", message)
