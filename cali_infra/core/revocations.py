"""`revoke-access`: who is to go, what must not happen by mistake, and what outlives it.

Whose record that is and how it is applied stands in `access_change.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.core import access
from cali_infra.core.access import Entry, Record
from cali_infra.core.access_change import POLICIES, AccessStack, principal_of
from cali_infra.core.progress import Progress
from cali_infra.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.aws_access import AccessEntry

# Of the whole cluster.
_ADMIN_POLICY = POLICIES["admin"][0]
# What a revocation does not reach, for a person.
OUTLIVES = (
    "a token that was handed out before is refused as soon as EKS has forgotten the entry, within a minute or so; "
    "what is open by then (kubectl exec, port-forward, logs --follow, a watch) goes on until it is closed"
)


@dataclass(frozen=True)
class Removal:
    """One principal that is to go: `recorded` is the record's entry, `found` the cluster's."""

    arn: str
    recorded: Entry | None
    found: AccessEntry | None
    managed: bool

    @property
    def name(self) -> str:
        return self.recorded.name if self.recorded else access.short(self.arn)


@dataclass(frozen=True)
class Intent:
    """Everything that is to be approved; `gone` are those that were revoked before and have nothing left."""

    removals: tuple[Removal, ...]
    gone: tuple[str, ...] = ()
    forced: bool = False

    @property
    def arns(self) -> tuple[str, ...]:
        return tuple(removal.arn for removal in self.removals)


class Revocations:
    """Revocations of one environment; `caller` is the ARN that is written down as who revoked.

    `own` is the caller's principal, whose access is not taken away by mistake.
    """

    def __init__(
        self,
        stack: AccessStack,
        aws: Aws,
        *,
        cluster: str,
        creator: Callable[[], str],
        caller: str,
        own: Callable[[], str],
        now: datetime,
    ) -> None:
        self._stack, self._aws, self._cluster = stack, aws, cluster
        self._creator, self._caller, self._own, self._now = creator, caller, own, now

    def intend(self, arns: Sequence[str], cancel: Event, *, force: bool = False) -> Intent:
        """Look everything up and say what is to be done; nothing is written.

        Raises UsageError for who has no access here, and RefusedError, unless `force`, for the caller itself and
        for the last admin. The creator's own entry is not managed and always refused.
        """
        wanted = list(dict.fromkeys(principal_of(self._aws, arn) for arn in arns))
        self._stack.open(cancel)
        creator = self._creator()
        if creator in wanted:
            raise RefusedError(
                f"{creator} created the cluster, and its own access entry is not managed",
                remedy="if it is to go all the same, see that another admin is left, and take it out by hand: "
                f"aws eks delete-access-entry --cluster-name {self._cluster} --principal-arn {creator}",
            )
        record, recorded = self._stack.record(), self._stack.recorded()
        everybody = self._aws.access_entries(self._cluster) or ()
        found = {entry.principal_arn: entry for entry in everybody}
        removals, gone, strange = [], [], []
        for arn in wanted:
            managed = access.instance(access.ENTRY, arn) in recorded
            if arn in record.entries or arn in found or managed:
                removals.append(Removal(arn, record.entries.get(arn), found.get(arn), managed))
            elif arn in record.revoked:
                gone.append(arn)
            else:
                strange.append(arn)
        if strange:
            raise UsageError(
                f"no access to revoke: {', '.join(strange)}", remedy="`cali list-access` shows who has access"
            )
        if not force:
            self._refuse_mistakes([removal.arn for removal in removals], everybody)
        return Intent(tuple(removals), tuple(gone), force)

    def apply(self, intent: Intent, watch: Progress, cancel: Event) -> Record:
        """Take them out; returns the record as it is then. Entries made by hand go through EKS itself.

        Raises RefusedError when somebody else has made one of them the last admin in the meantime.
        """

        def look_again() -> None:
            if not intent.forced:
                self._refuse_mistakes(intent.arns, self._aws.access_entries(self._cluster) or ())

        changed = self._stack.change(
            lambda record: access.revoked(record, intent.arns, by=self._caller, at=self._now),
            intent.arns,
            watch,
            cancel,
            check=look_again,
        )
        for removal in intent.removals:
            if removal.found is not None and not removal.managed:
                self._aws.delete_access_entry(self._cluster, removal.arn)
        return changed.record

    def over(self, cancel: Event) -> tuple[Entry, ...]:
        """The principals of the record whose time is over."""
        self._stack.open(cancel)
        return access.ended(self._stack.record(), self._now)

    def expire(self, entries: Collection[Entry], watch: Progress, cancel: Event) -> Record:
        """Take out whose time is over, with their schedules; AWS has deleted the entries itself, as a rule."""
        arns = [entry.arn for entry in entries]
        edit = self._expired
        return self._stack.change(edit, arns, watch, cancel).record if arns else self._stack.record()

    def _expired(self, record: Record) -> Record:
        return access.expire(record, self._now)

    def _refuse_mistakes(self, arns: Collection[str], everybody: Iterable[AccessEntry]) -> None:
        again = "if that is what you want, say so twice: --force --yes"
        if (own := self._own()) in arns:
            raise RefusedError(f"{own} is your own access", remedy=again)
        admins = [entry.principal_arn for entry in everybody if _administers(entry)]
        if set(admins) & set(arns) and not set(admins) - set(arns):
            raise RefusedError(
                f"nobody would administer the cluster any more: {', '.join(set(admins) & set(arns))} is the last",
                remedy=f"grant another one first, or {again}",
            )


def _administers(entry: AccessEntry) -> bool:
    return any(
        association.policy == _ADMIN_POLICY and association.scope == "cluster"
        for association in entry.policies
    )
