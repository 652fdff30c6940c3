"""`list-access`: what the record, the cluster and the local secrets say of who has access, side by side.

It judges and asks nobody: what is compared is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from cali_infra.core import access
from cali_infra.core.access_change import POLICIES, has_policy, policy_name

if TYPE_CHECKING:
    from cali_infra.adapters.aws_access import AccessEntry
    from cali_infra.adapters.aws_iam import PrincipalState
    from cali_infra.core.access import Entry, Record

_LEVELS = {policy: level for level, policies in POLICIES.items() for policy in policies}
_STRONGEST = tuple(POLICIES)


class Status(Enum):
    """How one principal's access stands.

    ACTIVE is whole. EXPIRED is past its time. UNMANAGED is in the cluster and on no record. MISSING_POLICY has an
    entry that gives nothing. MISSING is on record, and the cluster has no entry. PENDING is in the local file only.
    """

    ACTIVE = "active"
    EXPIRED = "expired"
    UNMANAGED = "unmanaged"
    MISSING_POLICY = "missing-policy"
    MISSING = "missing"
    PENDING = "pending"


@dataclass(frozen=True)
class Row:
    """One principal; `source` is state, cluster or secrets, whichever knows it best, `notes` what does not fit.

    `until` and `granted_at` are RFC 3339; `in_cluster` is whether it has an access entry, `search_user` its user of
    the domain, where it has one.
    """

    arn: str
    name: str
    level: str
    namespaces: tuple[str, ...]
    until: str | None
    status: Status
    source: str
    in_cluster: bool = False
    granted_by: str = ""
    granted_at: str = ""
    search_user: str = ""
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """The entry of the JSON."""
        return {
            "arn": self.arn,
            "name": self.name,
            "level": self.level,
            "namespaces": list(self.namespaces),
            "expires_at": self.until,
            "status": self.status.value,
            "source": self.source,
            "granted_by": self.granted_by or None,
            "granted_at": self.granted_at or None,
            "opensearch_user": self.search_user or None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Sources:
    """What is compared; `born` are IAM's answers by ARN, for as many as it was asked about."""

    record: Record
    cluster: Sequence[AccessEntry]
    local: Sequence[Entry]
    creator: str
    born: Mapping[str, PrincipalState]
    search_users: Mapping[str, str]


def rows(sources: Sources, now: datetime) -> tuple[Row, ...]:
    """Everybody, in the order of their names; the nodes' own entries are nobody's access and left out."""
    found = {entry.principal_arn: entry for entry in sources.cluster if entry.kind == "STANDARD"}
    recorded, local = sources.record.entries, {entry.arn: entry for entry in sources.local}
    made = [_recorded(entry, found.get(arn), sources, now) for arn, entry in recorded.items()]
    made += [_unmanaged(entry, sources) for arn, entry in found.items() if arn not in recorded]
    made += [
        _pending(entry, sources, now)
        for arn, entry in local.items()
        if arn not in recorded and arn not in found and arn != sources.creator
    ]
    return tuple(sorted(made, key=lambda row: (row.name.lower(), row.arn)))


def _recorded(entry: Entry, found: AccessEntry | None, sources: Sources, now: datetime) -> Row:
    notes: list[str] = []
    status = Status.ACTIVE
    if entry.until is not None and datetime.fromisoformat(entry.until) <= now:
        status = Status.EXPIRED
        notes.append("still in the cluster" if found else "AWS has taken the entry away")
    elif found is None:
        status = Status.MISSING
        notes.append("on record, but the cluster has no entry: `cali up access` makes it anew")
    elif not has_policy(found.policies, entry):
        status = Status.MISSING_POLICY
        has = ", ".join(sorted(one.policy for one in found.policies)) or "none"
        notes.append(f"should have {policy_name(entry)}, has {has}: `cali up access` puts it right")
    if found is not None:
        notes += _strange(entry, found)
        notes += _reborn(found, sources)
    return Row(
        entry.arn,
        entry.name,
        entry.level,
        entry.namespaces,
        entry.until,
        status,
        "state",
        found is not None,
        entry.granted_by,
        entry.granted_at,
        sources.search_users.get(entry.arn, ""),
        tuple(notes),
    )


def _strange(entry: Entry, found: AccessEntry) -> Iterable[str]:
    """What the cluster gives beyond the record."""
    more = sorted(one.policy for one in found.policies if one.policy != policy_name(entry))
    if more and has_policy(found.policies, entry):
        yield f"also has {', '.join(more)}, which cali did not give"
    for association in found.policies:
        if association.policy == policy_name(entry) and set(association.namespaces) != set(entry.namespaces):
            yield f"in the cluster its scope is {', '.join(association.namespaces) or 'the whole cluster'}"
    if found.groups:
        yield f"also in the Kubernetes groups {', '.join(found.groups)}"


def _reborn(found: AccessEntry, sources: Sources) -> Iterable[str]:
    from cali_infra.adapters.aws_iam import Standing

    state = sources.born.get(found.principal_arn)
    if state is None:
        return
    if state.standing is Standing.ABSENT:
        yield "IAM has no such principal any more: cali revoke-access takes it out"
    elif state.created_at is not None and state.created_at > found.created_at:
        yield "deleted and made anew in IAM, so that its entry is dead: cali grant-access makes it work again"


def _unmanaged(found: AccessEntry, sources: Sources) -> Row:
    arn = found.principal_arn
    levels = [_LEVELS.get(association.policy, "") for association in found.policies]
    notes = [*_reborn(found, sources)]
    if arn == sources.creator:
        notes.insert(0, "created the cluster: its own entry is not managed")
    elif arn in sources.record.revoked:
        gone = sources.record.revoked[arn]
        notes.insert(0, f"revoked on {gone.revoked_at} by {gone.revoked_by}, and made again by hand since")
    else:
        notes.insert(0, "made by hand: cali grant-access adopts it, cali revoke-access takes it out")
    if not found.policies:
        notes.append("has no policy")
    return Row(
        arn,
        found.tags.get("name") or access.short(arn),
        next((level for level in _STRONGEST if level in levels), ""),
        tuple(sorted({space for association in found.policies for space in association.namespaces})),
        None,
        Status.UNMANAGED,
        "cluster",
        in_cluster=True,
        search_user=sources.search_users.get(arn, ""),
        notes=tuple(notes),
    )


def _pending(entry: Entry, sources: Sources, now: datetime) -> Row:
    status, note = Status.PENDING, "in secrets.yaml only: `cali up access` grants it"
    gone = sources.record.revoked.get(entry.arn)
    if gone is not None:
        note = f"revoked on {gone.revoked_at} by {gone.revoked_by}: the line in secrets.yaml has no effect"
    elif entry.until is not None and datetime.fromisoformat(entry.until) <= now:
        status, note = Status.EXPIRED, "in secrets.yaml only, and over: the line has no effect"
    return Row(
        entry.arn,
        entry.name,
        entry.level,
        entry.namespaces,
        entry.until,
        status,
        "secrets",
        search_user=sources.search_users.get(entry.arn, ""),
        notes=(note,),
    )
