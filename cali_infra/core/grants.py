"""`grant-access`: who is to get in, what that changes for each, and the proof that it works.

A request leaves out what it does not change: a new principal gets the defaults, one that is there keeps what it
has. Whose record that is and how it is applied stands in `access_change.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.core import access
from cali_infra.core.access import Entry, Record
from cali_infra.core.access_change import (
    AccessStack,
    has_policy,
    policy_name,
    principal_of,
    taken_policy,
)
from cali_infra.core.grant_requests import Request
from cali_infra.core.progress import Progress
from cali_infra.errors import UsageError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.aws_access import AccessEntry
    from cali_infra.adapters.aws_iam import PrincipalState

# A schedule in the past is refused, and an apply takes its time.
_SHORTEST = timedelta(minutes=5)


@dataclass(frozen=True)
class Grant:
    """What a request comes to: the entry as it is to be, and what stands in the cluster today.

    `before` is the record's own, `found` the cluster's entry; `anew` when the principal was deleted and made
    again in IAM, so that its entry is dead; `extra` are policy ARNs that somebody else associated.
    """

    entry: Entry
    before: Entry | None
    found: AccessEntry | None
    anew: bool
    extra: tuple[str, ...]
    by_hand: bool

    @property
    def unchanged(self) -> bool:
        """The record and the cluster have it already."""
        same = self.before is not None and _asked(self.before) == _asked(self.entry)
        return same and self.found is not None and not (self.anew or self.extra or self.by_hand)


@dataclass(frozen=True)
class Intent:
    """Everything that is to be approved, with what a person should know."""

    grants: tuple[Grant, ...]
    warnings: tuple[str, ...] = ()

    @property
    def arns(self) -> tuple[str, ...]:
        return tuple(grant.entry.arn for grant in self.grants)

    def edit(self, record: Record) -> Record:
        """The record with these grants; what was granted in the meantime by others is left."""
        return access.granted(record, [grant.entry for grant in self.grants])


class Grants:
    """Grants of one environment; `caller` is the ARN that is written down as who granted."""

    def __init__(
        self,
        stack: AccessStack,
        aws: Aws,
        *,
        cluster: str,
        creator: Callable[[], str],
        caller: str,
        now: datetime,
    ) -> None:
        self._stack, self._aws, self._cluster = stack, aws, cluster
        self._creator, self._caller, self._now = creator, caller, now

    def intend(self, requests: Sequence[Request], cancel: Event) -> Intent:
        """Look everything up and say what is to be done; nothing is written.

        Raises UsageError for principals that cannot have an entry or that IAM does not know, with all of them.
        """
        _refuse_the_past(requests, self._now)
        requests = [replace(request, arn=principal_of(self._aws, request.arn)) for request in requests]
        _refuse_twice(requests)
        _refuse_other_partitions(requests, self._caller)
        arns = [request.arn for request in requests]
        with ThreadPoolExecutor(2, thread_name_prefix="look") as pool:
            opened = pool.submit(self._stack.open, cancel)
            asked = pool.submit(self._aws.principals, arns, account=self._caller.split(":")[4])
            # A principal that does not exist is said whatever else is wrong.
            states = asked.result()
            warnings = _known([states[arn] for arn in arns])
            opened.result()
        creator = self._creator()
        if creator in arns:
            raise UsageError(
                f"{creator} created the cluster: it administers it, and its own access entry is not managed",
                remedy="leave it out",
            )
        found = {entry.principal_arn: entry for entry in self._stack.entries(arns)}
        record, recorded = self._stack.record(), self._stack.recorded()
        grants = [
            self._grant(request, states[request.arn], found.get(request.arn), record, recorded)
            for request in requests
        ]
        return Intent(tuple(grants), warnings)

    def apply(self, intent: Intent, watch: Progress, cancel: Event) -> Record:
        """Grant; returns the record as it is then. Policies that somebody else associated go last."""
        for grant in intent.grants:
            if grant.anew and grant.by_hand:
                # A dead entry that nobody manages: Terraform makes the living one.
                self._aws.delete_access_entry(self._cluster, grant.entry.arn)
        anew = [grant.entry.arn for grant in intent.grants if grant.anew and not grant.by_hand]
        changed = self._stack.change(intent.edit, intent.arns, watch, cancel, anew=anew)
        for grant in intent.grants:
            for policy in grant.extra:
                self._aws.disassociate_access_policy(self._cluster, grant.entry.arn, policy)
        return changed.record

    def _grant(
        self,
        request: Request,
        state: PrincipalState,
        found: AccessEntry | None,
        record: Record,
        recorded: frozenset[str],
    ) -> Grant:
        stated = before = record.entries.get(request.arn)
        if before is not None and before in access.ended(record, self._now):
            # Whose time is over has nothing to keep but the name.
            request, before = replace(request, name=request.name or before.name), None
        entry = self._entry(request, before, record)
        managed = access.instance(access.ENTRY, request.arn) in recorded
        kept = policy_name(entry)
        extra: tuple[str, ...] = ()
        if found is not None:
            taken = taken_policy(found, entry)
            extra = tuple(
                association.policy_arn
                for association in found.policies
                # What Terraform has or takes over is Terraform's to change.
                if association.policy != kept
                and not (not managed and association.policy_arn == taken)
                and not (managed and stated and has_policy((association,), stated))
            )
        anew = bool(found and state.created_at and found.created_at < state.created_at)
        return Grant(entry, before, found, anew, extra, by_hand=found is not None and not managed)

    def _entry(self, request: Request, before: Entry | None, record: Record) -> Entry:
        gone = record.revoked.get(request.arn)
        name = request.name or (before.name if before else "") or (gone.name if gone else "")
        until = request.until if request.until or request.forever else (before.until if before else None)
        wanted = Entry(
            request.arn,
            name or access.short(request.arn),
            request.level or (before.level if before else "admin"),
            request.namespaces if request.namespaces is not None else (before.namespaces if before else ()),
            until,
            self._caller,
            access.timestamp(self._now),
        )
        # Who granted it, and when, stays where nothing changes.
        return before if before is not None and _asked(before) == _asked(wanted) else wanted


def _refuse_the_past(requests: Sequence[Request], now: datetime) -> None:
    over = [
        f"{request.arn}: access would end on {request.until}, which is over or about to be"
        for request in requests
        if request.until is not None and datetime.fromisoformat(request.until) <= now + _SHORTEST
    ]
    if over:
        raise UsageError("\n".join(over), remedy="give a later moment; nothing was asked or changed")


def _refuse_twice(requests: Sequence[Request]) -> None:
    twice = [arn for arn, count in Counter(request.arn for request in requests).items() if count > 1]
    if twice:
        raise UsageError(
            f"named more than once: {', '.join(twice)}",
            remedy="an ARN has one access entry: give it once, with one level and one scope",
        )


def _refuse_other_partitions(requests: Sequence[Request], caller: str) -> None:
    """A cluster knows principals of its own partition only; the caller is in it."""
    own = caller.split(":")[1]
    strange = [request.arn for request in requests if request.arn.split(":")[1] != own]
    if strange:
        raise UsageError(
            f"not in the partition {own}, where the cluster is: {', '.join(strange)}",
            remedy="give principals of accounts in that partition",
        )


def _known(states: Sequence[PrincipalState]) -> tuple[str, ...]:
    """What IAM could not tell, in words; raises UsageError for principals that it says are not there."""
    from cali_infra.adapters.aws_iam import Standing

    absent = [
        f"{state.asked}: IAM has no such principal" + (f", but it has {state.arn}" if state.arn else "")
        for state in states
        if state.standing is Standing.ABSENT
    ]
    if absent:
        raise UsageError(
            "\n".join(absent),
            remedy="check the ARN, its path too: aws iam get-user or get-role prints it; nothing was changed",
        )
    words = {
        Standing.MAY_NOT_ASK: "whether it exists is not known: IAM may not be asked",
        Standing.OTHER_ACCOUNT: "whether it exists is not known: it belongs to another account",
    }
    return tuple(f"{state.asked}: {words[state.standing]}" for state in states if state.standing in words)


def _asked(entry: Entry) -> Entry:
    """An entry without who granted it and when."""
    return replace(entry, granted_by="", granted_at="", namespaces=tuple(sorted(entry.namespaces)))
