"""The API of EventBridge Scheduler: groups, their tags, and one-time schedules in UTC.

It owns the operations and their rules. What a target is and how it is called is `targets.py`'s, when that
happens `runner.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cali_infra.sandbox.aws.calls import Call, Operation, Result, Table, not_modelled, operation, page
from cali_infra.sandbox.aws.scheduler.state import (
    DEFAULT_GROUP,
    Book,
    Group,
    Schedule,
    group_arn,
    invalid,
    refusal,
)
from cali_infra.sandbox.aws.scheduler.targets import Targets

_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_WANTED = (
    "Name GroupName ScheduleExpression ScheduleExpressionTimezone State Description Target"
    " FlexibleTimeWindow ActionAfterCompletion ClientToken"
)
_WRITES = {"CreateSchedule", "UpdateSchedule", "DeleteSchedule", "DeleteScheduleGroup"}


class Scheduler:
    """The scheduler's API over one book."""

    def __init__(
        self,
        book: Book,
        targets: Targets,
        *,
        clock: Callable[[], datetime],
        now: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        """`clock` is the scheduler's own, `now` the real time that stamps; `changed` hears of new due times."""
        self._book = book
        self._targets = targets
        self._clock = clock
        self._now = now
        self._changed = changed
        self._table = Table("scheduler", self._operations())

    def answer(self, call: Call) -> Result:
        """Answer a call; raises ServiceError."""
        with self._book.lock:
            result = self._table.answer(call)
        if call.operation in _WRITES:
            self._changed()
        return result

    def _operations(self) -> dict[str, Operation]:
        paged = "NamePrefix MaxResults NextToken"
        return {
            "CreateScheduleGroup": operation(self._create_group, "Name Tags ClientToken"),
            "GetScheduleGroup": operation(self._get_group, "Name"),
            "ListScheduleGroups": operation(self._list_groups, paged),
            "DeleteScheduleGroup": operation(self._delete_group, "Name ClientToken"),
            "TagResource": operation(self._tag, "ResourceArn Tags"),
            "UntagResource": operation(self._untag, "ResourceArn TagKeys"),
            "ListTagsForResource": operation(self._tags, "ResourceArn"),
            "CreateSchedule": operation(self._create, _WANTED),
            "GetSchedule": operation(self._get, "Name GroupName"),
            "ListSchedules": operation(self._list, f"{paged} GroupName State"),
            "UpdateSchedule": operation(self._update, _WANTED),
            "DeleteSchedule": operation(self._delete, "Name GroupName ClientToken"),
        }

    def _create_group(self, call: Call) -> Result:
        groups, name = self._groups(call), str(call["Name"])
        if name in groups:
            raise refusal("ConflictException", f"Schedule group {name} already exists.")
        tags = {each["Key"]: each["Value"] for each in call.get("Tags", [])}
        groups[name] = Group(name, group_arn(call.account, call.region, name), self._now(), tags)
        return {"ScheduleGroupArn": groups[name].arn}

    def _get_group(self, call: Call) -> Result:
        return self._group(call, call["Name"]).document()

    def _list_groups(self, call: Call) -> Result:
        found = [
            group.document()
            for name, group in sorted(self._groups(call).items())
            if name.startswith(call.get("NamePrefix", ""))
        ]
        return page(call, found, "ScheduleGroups", size="MaxResults", token="NextToken")

    def _delete_group(self, call: Call) -> Result:
        """Its schedules go with it."""
        if call["Name"] == DEFAULT_GROUP:
            raise invalid("The default schedule group cannot be deleted.")
        self._group(call, call["Name"])
        del self._groups(call)[call["Name"]]
        return {}

    def _tag(self, call: Call) -> Result:
        self._tagged(call).tags.update({each["Key"]: each["Value"] for each in call["Tags"]})
        return {}

    def _untag(self, call: Call) -> Result:
        for key in call["TagKeys"]:
            self._tagged(call).tags.pop(key, None)
        return {}

    def _tags(self, call: Call) -> Result:
        return {"Tags": [{"Key": key, "Value": value} for key, value in self._tagged(call).tags.items()]}

    def _create(self, call: Call) -> Result:
        group = self._group(call, call.get("GroupName"))
        if call["Name"] in group.schedules:
            raise refusal("ConflictException", f"Schedule {call['Name']} already exists.")
        made = self._wanted(call, group)
        group.schedules[made.name] = made
        return {"ScheduleArn": made.arn}

    def _get(self, call: Call) -> Result:
        return self._schedule(call).document()

    def _list(self, call: Call) -> Result:
        groups = (
            [self._group(call, call["GroupName"])] if call.get("GroupName") else self._groups(call).values()
        )
        found = [
            _summary(schedule)
            for group in groups
            for name, schedule in sorted(group.schedules.items())
            if name.startswith(call.get("NamePrefix", ""))
            and call.get("State", schedule.state) == schedule.state
        ]
        return page(call, found, "Schedules", size="MaxResults", token="NextToken")

    def _update(self, call: Call) -> Result:
        """The schedule is as if made anew: it will run, also when it has run before."""
        before = self._schedule(call)
        made = replace(
            self._wanted(call, self._group(call, call.get("GroupName"))), created_at=before.created_at
        )
        self._group(call, made.group).schedules[made.name] = made
        return {"ScheduleArn": made.arn}

    def _delete(self, call: Call) -> Result:
        schedule = self._schedule(call)
        del self._group(call, schedule.group).schedules[schedule.name]
        return {}

    def _wanted(self, call: Call, group: Group) -> Schedule:
        """The schedule that a call asks for; raises ServiceError for a wrong one or one not modelled."""
        if call["FlexibleTimeWindow"].get("Mode") != "OFF":
            raise not_modelled("scheduler", "a flexible time window")
        if call.get("ActionAfterCompletion", "NONE") != "NONE":
            raise not_modelled("scheduler", "a schedule that deletes itself")
        if call.get("ScheduleExpressionTimezone", "UTC") != "UTC":
            raise not_modelled("scheduler", "a time zone other than UTC")
        expression = str(call["ScheduleExpression"])
        due = self._due(expression)
        target = self._targets.check(call, group.name)
        now = self._now()
        return Schedule(
            name=str(call["Name"]),
            group=group.name,
            account=call.account,
            region=call.region,
            description=str(call.get("Description", "")),
            expression=expression,
            state=str(call.get("State", "ENABLED")),
            target=target,
            created_at=now,
            modified_at=now,
            due=due,
            next_at=due,
        )

    def _due(self, expression: str) -> datetime:
        if expression.startswith(("cron(", "rate(")):
            raise not_modelled("scheduler", f"the recurring schedule {expression}")
        found = _AT.fullmatch(expression)
        try:
            if found is None:
                raise ValueError
            due = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        except ValueError:
            raise invalid(f"Invalid Schedule Expression {expression}.") from None
        if due <= self._clock():
            raise invalid(
                f"Invalid Schedule Expression {expression}: that is in the past (the sandbox's scheduler is at"
                f" {self._clock():%Y-%m-%dT%H:%M:%SZ})."
            )
        return due

    def _groups(self, call: Call) -> dict[str, Group]:
        return self._book.groups(call, self._now())

    def _group(self, call: Call, name: str | None) -> Group:
        group = self._groups(call).get(name or DEFAULT_GROUP)
        if group is None:
            raise refusal("ResourceNotFoundException", f"Schedule group {name} does not exist.")
        return group

    def _schedule(self, call: Call) -> Schedule:
        schedule = self._group(call, call.get("GroupName")).schedules.get(str(call["Name"]))
        if schedule is None:
            raise refusal("ResourceNotFoundException", f"Schedule {call['Name']} does not exist.")
        return schedule

    def _tagged(self, call: Call) -> Group:
        for group in self._groups(call).values():
            if group.arn == call["ResourceArn"]:
                return group
        raise refusal("ResourceNotFoundException", f"Resource {call['ResourceArn']} does not exist.")


def _summary(schedule: Schedule) -> dict[str, Any]:
    """A schedule as a list shows it."""
    document = schedule.document()
    keys = ("Arn", "GroupName", "Name", "State", "CreationDate", "LastModificationDate")
    return {**{key: document[key] for key in keys}, "Target": {"Arn": schedule.target["Arn"]}}
