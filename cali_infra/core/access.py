"""Who has access: the record in the state of the `access` stack, and its union with the local secrets.

Only `revoke-access` or an expiry takes a principal out of the record, and only `grant-access` brings one back;
`up` adds what `secrets.yaml` lists and nobody has revoked. Nothing in here asks anybody anything.
Source: design, "Where things are kept".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

STACK = "access"
# The addresses of the stack's resources; all but the record are keyed by the principal's ARN.
RECORD = "terraform_data.record"
ENTRY = "aws_eks_access_entry.this"
ASSOCIATION = "aws_eks_access_policy_association.this"
SCHEDULE = "aws_scheduler_schedule.expiry"
# Who revokes an access whose time is over.
EXPIRY = "its expiry"


@dataclass(frozen=True)
class Entry:
    """One principal of the record; times are RFC 3339 in UTC, `until` None for no expiry."""

    arn: str
    name: str
    level: str
    namespaces: tuple[str, ...] = ()
    until: str | None = None
    granted_by: str = ""
    granted_at: str = ""

    def variable(self) -> dict[str, object]:
        """The value that the stack's variable `principals` holds under this ARN."""
        return {
            "name": self.name,
            "level": self.level,
            "namespaces": list(self.namespaces),
            "until": self.until,
            "granted_by": self.granted_by,
            "granted_at": self.granted_at,
        }


@dataclass(frozen=True)
class Revocation:
    """A principal that was taken out and is not to come back by a stale local file."""

    arn: str
    name: str
    revoked_at: str
    revoked_by: str

    def variable(self) -> dict[str, object]:
        """The value that the stack's variable `revoked` holds under this ARN."""
        return {"name": self.name, "revoked_at": self.revoked_at, "revoked_by": self.revoked_by}


@dataclass(frozen=True)
class Record:
    """The record of who has access and who had it, both by ARN."""

    entries: Mapping[str, Entry]
    revoked: Mapping[str, Revocation]


EMPTY = Record({}, {})


def from_output(value: Mapping[str, Any] | None) -> Record:
    """The record in the `record` output of the stack; empty before the first apply."""
    if not value:
        return EMPTY
    entries = {
        arn: Entry(
            arn=arn,
            name=item["name"],
            level=item["level"],
            namespaces=tuple(item.get("namespaces") or ()),
            until=item.get("until"),
            granted_by=item.get("granted_by") or "",
            granted_at=item.get("granted_at") or "",
        )
        for arn, item in (value.get("principals") or {}).items()
    }
    revoked = {
        arn: Revocation(arn, item["name"], item["revoked_at"], item["revoked_by"])
        for arn, item in (value.get("revoked") or {}).items()
    }
    return Record(entries, revoked)


def granted(record: Record, entries: Iterable[Entry]) -> Record:
    """The record with these principals in it, also those that were revoked before."""
    new = {entry.arn: entry for entry in entries}
    revoked = {arn: gone for arn, gone in record.revoked.items() if arn not in new}
    return Record({**record.entries, **new}, revoked)


def revoked(record: Record, arns: Collection[str], *, by: str, at: datetime) -> Record:
    """The record without these principals, which are remembered as revoked; those that are not in it as well.

    Who was revoked before stays so, with the date and the name of then.
    """
    entries = {arn: entry for arn, entry in record.entries.items() if arn not in arns}
    gone = {
        arn: Revocation(
            arn, record.entries[arn].name if arn in record.entries else short(arn), timestamp(at), by
        )
        for arn in arns
        if arn in record.entries or arn not in record.revoked
    }
    return Record(entries, {**record.revoked, **gone})


def ended(record: Record, now: datetime) -> tuple[Entry, ...]:
    """The principals of the record whose time is over."""
    return tuple(
        entry
        for _, entry in sorted(record.entries.items())
        if entry.until is not None and datetime.fromisoformat(entry.until) <= now
    )


def expire(record: Record, now: datetime) -> Record:
    """The record without those whose time is over: revoked, so that a line in a local file does not bring one
    back."""
    for entry in ended(record, now):
        assert entry.until is not None
        record = revoked(record, {entry.arn}, by=EXPIRY, at=datetime.fromisoformat(entry.until))
    return record


@dataclass(frozen=True)
class Merge:
    """The record that an apply is to have, and what a person should know about how it came about."""

    record: Record
    warnings: tuple[str, ...]


def merge(record: Record, local: Sequence[Entry], *, creator: str, caller: str, now: datetime) -> Merge:
    """The union of the record and the local principals, less the revoked, the expired and the creator.

    What the record says of a principal wins over the local file: a level changed by `grant-access` on another
    laptop is not undone by an old line here.
    """
    warnings = [f"{entry.arn} ({entry.name}): access ended on {entry.until}" for entry in ended(record, now)]
    over = {entry.arn for entry in ended(record, now)}
    record = expire(record, now)
    entries = {arn: entry for arn, entry in record.entries.items() if arn != creator}
    for entry in local:
        if entry.arn == creator:
            warnings.append(f"{entry.arn} created the cluster: its own access entry is not managed")
        elif entry.arn in over:
            # Said already.
            continue
        elif entry.arn in record.revoked:
            warnings.append(_stays_out(record.revoked[entry.arn]))
        elif entry.until is not None and datetime.fromisoformat(entry.until) <= now:
            warnings.append(f"{entry.arn} ({entry.name}): access ended on {entry.until}")
        elif entry.arn not in entries:
            entries[entry.arn] = replace(entry, granted_by=caller, granted_at=timestamp(now))
    return Merge(Record(dict(sorted(entries.items())), record.revoked), tuple(warnings))


def addresses(arn: str) -> tuple[str, ...]:
    """The resources that the stack makes for one principal."""
    return tuple(instance(resource, arn) for resource in (ENTRY, ASSOCIATION, SCHEDULE))


def instance(resource: str, arn: str) -> str:
    """The address of one principal's instance, as Terraform writes it: a path in an ARN may hold quotes."""
    key = json.dumps(arn).replace("${", "$${").replace("%{", "%%{")
    return f"{resource}[{key}]"


def short(arn: str) -> str:
    """The ARN's own name of a user or role, without its path."""
    return arn.rsplit("/", 1)[-1]


def timestamp(moment: datetime) -> str:
    """RFC 3339 with seconds, as EventBridge, tags and the record write a time; `moment` is in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _stays_out(gone: Revocation) -> str:
    how = f"ended on {gone.revoked_at}" if gone.revoked_by == EXPIRY else ""
    how = how or f"was revoked on {gone.revoked_at} by {gone.revoked_by}"
    return (
        f"{gone.arn}: access {how}, and stays out: remove the line from secrets.yaml, or give access again "
        f"with cali grant-access {gone.arn}"
    )
