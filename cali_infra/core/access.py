"""Who has access: the record in the state of the `access` stack, and its union with the local secrets.

Only `revoke-access` or an expiry takes a principal out of the record; `up` adds what `secrets.yaml` lists and
nobody has revoked. Source: design, "Where things are kept".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


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


@dataclass(frozen=True)
class Merge:
    """The record that an apply is to have, and what a person should know about how it came about."""

    record: Record
    warnings: tuple[str, ...]


def timestamp(moment: datetime) -> str:
    """RFC 3339 with seconds, as EventBridge, tags and the record write a time; `moment` is in UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(record: Record, local: Sequence[Entry], *, creator: str, caller: str, now: datetime) -> Merge:
    """The union of the record and the local principals, less the revoked, the expired and the creator.

    What the record says of a principal wins over the local file: a level changed by `grant-access` on another
    laptop is not undone by an old line here.
    """
    warnings: list[str] = []
    entries = dict(record.entries)
    for entry in local:
        if entry.arn == creator:
            warnings.append(f"{entry.arn} created the cluster: its own access entry is not managed")
        elif entry.arn in record.revoked:
            gone = record.revoked[entry.arn]
            warnings.append(
                f"{entry.arn} was revoked on {gone.revoked_at} by {gone.revoked_by} and stays out: "
                "remove it from secrets.yaml, or grant access again"
            )
        elif entry.arn not in entries:
            entries[entry.arn] = Entry(
                entry.arn, entry.name, entry.level, entry.namespaces, entry.until, caller, timestamp(now)
            )
    kept = {}
    for arn, entry in sorted(entries.items()):
        if arn == creator:
            continue
        if entry.until is not None and datetime.fromisoformat(entry.until) <= now:
            warnings.append(f"{arn} ({entry.name}): access ended on {entry.until}")
            continue
        kept[arn] = entry
    return Merge(Record(kept, record.revoked), tuple(warnings))
