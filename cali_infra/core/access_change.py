"""A change of the record of access that reaches some principals and nothing else.

It reads the record from the state, changes it, plans with the principals' own addresses as targets, refuses a plan
with anything else in it, and applies. Contenders take turns for all of that; who may be granted or revoked is
`grants.py`'s and `revocations.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from cali_infra.core import access, principals
from cali_infra.core.access import Record
from cali_infra.core.progress import Progress
from cali_infra.core.stacks import HeldTurn, Import, Scope, TerraformStage
from cali_infra.errors import GuardedChangeError, PreconditionError, StalePlanError, UsageError

if TYPE_CHECKING:
    from cali_infra.adapters.aws import Aws
    from cali_infra.adapters.aws_access import AccessEntry, PolicyAssociation
    from cali_infra.adapters.terraform_state import StateSnapshot
    from cali_infra.plans import StagePlan

# Policies by level: an admin of some namespaces administers what is in them, not the cluster. The stack has the
# same table (entries.tf).
POLICIES = {
    "admin": ("AmazonEKSClusterAdminPolicy", "AmazonEKSAdminPolicy"),
    "edit": ("AmazonEKSEditPolicy", "AmazonEKSEditPolicy"),
    "view": ("AmazonEKSViewPolicy", "AmazonEKSViewPolicy"),
}
# What the stack makes once for all schedules, when the first one comes or the last one goes.
_SHARED = (
    "aws_scheduler_schedule_group.",
    "aws_iam_role.",
    "aws_iam_role_policy.",
    "aws_sqs_queue.",
    "aws_sqs_queue_policy.",
)
# Each further one means that somebody has applied the stack past the lease: by plain Terraform, perhaps.
_ATTEMPTS = 5

Edit = Callable[[Record], Record]
Turn = Callable[[Progress, Event], AbstractContextManager[HeldTurn]]


@dataclass(frozen=True)
class Changed:
    """What an apply did: the record as it is now, and the plan, empty where nothing was to be done."""

    record: Record
    plan: StagePlan


class AccessStack:
    """The stack `access` for commands that change a part of it.

    `make` makes its driver from a source of variables and of imports, `variables` the variables of a record,
    `turn` keeps other operators out. `entries` looks up the access entries of these principals.
    """

    def __init__(
        self,
        *,
        make: Callable[[Callable[[], dict[str, object]], Callable[[], Sequence[Import]]], TerraformStage],
        needs: Sequence[TerraformStage],
        variables: Callable[[Record], dict[str, object]],
        entries: Callable[[Collection[str]], Sequence[AccessEntry]],
        cluster: str,
        turn: Turn,
    ) -> None:
        self._edit: Edit = lambda record: record
        self._stage = make(lambda: variables(self._edited()), self._imports)
        self._needs = tuple(needs)
        self._entries = entries
        self._cluster = cluster
        self._turn = turn

    def open(self, cancel: Event) -> None:
        """Get ready to be asked. Raises PreconditionError where the cluster was never made."""
        for need in self._needs:
            need.open(cancel)
        unbuilt = [need.stage.name for need in self._needs if not need.complete()]
        if unbuilt:
            raise PreconditionError(
                f"there is no cluster yet: {', '.join(unbuilt)} was never applied here",
                remedy="make it with `cali up`, or list the principals in secrets.yaml, which `up` grants",
            )
        self._stage.open(cancel)

    def record(self) -> Record:
        """The record as the state had it when it was last read."""
        return access.from_output(self._stage.outputs().get("record"))

    def entries(self, arns: Collection[str]) -> Sequence[AccessEntry]:
        """The cluster's entries of these principals, those that have one."""
        return self._entries(arns)

    def recorded(self) -> frozenset[str]:
        """The addresses that the state holds."""
        return frozenset(resource.address for resource in self._stage.snapshot.managed)

    def change(
        self,
        edit: Edit,
        arns: Collection[str],
        watch: Progress,
        cancel: Event,
        *,
        anew: Collection[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Changed:
        """Apply `edit` to the record that the state has by then, for these principals; the entries of `anew` are
        deleted and made again, and `check` may refuse it all once nobody else can interfere.

        `edit` is asked again whenever somebody else was faster. Raises GuardedChangeError when the plan would
        touch anything else, and what Terraform raises.
        """
        scope = Scope(
            (access.RECORD, *(address for arn in sorted(arns) for address in access.addresses(arn))),
            # With its entry an association goes too, and nothing in it tells Terraform so.
            tuple(
                access.instance(resource, arn)
                for arn in sorted(anew)
                for resource in (access.ENTRY, access.ASSOCIATION)
            ),
        )
        self._edit = edit
        with self._turn(watch, cancel) as turn:
            check()
            for attempt in range(_ATTEMPTS):
                self._stage.open(cancel)
                plan = self._stage.plan(watch, cancel, scope)
                _refuse_others(plan, scope)
                if plan.empty:
                    return Changed(self.record(), plan)
                turn.check()
                try:
                    self._stage.apply(plan, watch, cancel)
                except StalePlanError:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue
                finally:
                    self._stage.discard()
                return Changed(self.record(), plan)
        raise AssertionError("the last attempt returns or raises")

    def _edited(self) -> Record:
        return self._edit(self.record())

    def _imports(self) -> Sequence[Import]:
        return adoptions(self._stage.snapshot, self._edited(), self._entries, self._cluster)


def adoptions(
    state: StateSnapshot,
    wanted: Record,
    entries: Callable[[Collection[str]], Sequence[AccessEntry]],
    cluster: str,
) -> tuple[Import, ...]:
    """The entries, and one policy association each, that somebody made by hand for principals of the record.

    Only principals whose entry is not in the state are looked up. Raises UsageError for one that is a node's.
    """
    there = {resource.address for resource in state.managed}
    missing = [arn for arn in wanted.entries if access.instance(access.ENTRY, arn) not in there]
    found: list[Import] = []
    for entry in entries(missing) if missing else ():
        arn = entry.principal_arn
        if entry.kind != "STANDARD":
            raise UsageError(
                f"{arn} has an access entry of type {entry.kind}: it is what nodes join with",
                remedy="give the user or the role with which people come in",
            )
        found.append(Import(access.instance(access.ENTRY, arn), f"{cluster}:{arn}"))
        policy = taken_policy(entry, wanted.entries[arn])
        if policy:
            found.append(Import(access.instance(access.ASSOCIATION, arn), f"{cluster}#{arn}#{policy}"))
    return tuple(found)


def taken_policy(entry: AccessEntry, wanted: access.Entry) -> str | None:
    """The policy of an entry made by hand that Terraform takes over: the wanted one where it is there."""
    name = policy_name(wanted)
    fitting = [association for association in entry.policies if association.policy == name]
    return next((association.policy_arn for association in (*fitting, *entry.policies)), None)


def has_policy(associations: Iterable[PolicyAssociation], entry: access.Entry) -> bool:
    """Whether the policy of a principal of the record is among these associations."""
    wanted = policy_name(entry)
    return any(association.policy == wanted for association in associations)


def policy_name(entry: access.Entry) -> str:
    """The access policy that a principal of the record gets."""
    return POLICIES[entry.level][1 if entry.namespaces else 0]


def principal_of(aws: Aws, arn: str) -> str:
    """The user's or role's ARN that somebody has named: of a role's session it is the role, its path from IAM.

    Raises UsageError for what cannot have an access entry, RoleUnresolvedError where IAM does not tell the role.
    """
    if isinstance(principals.examine(arn), principals.RoleSession):
        return aws.role_of_session(arn)
    return principals.parse(arn).arn


def _refuse_others(plan: StagePlan, scope: Scope) -> None:
    strange = [
        change.address
        for change in plan.changes
        if change.address not in scope.targets and not change.address.startswith(_SHARED)
    ]
    if strange:
        raise GuardedChangeError(
            plan.stage,
            strange,
            message=f"the plan would change more than these principals: {', '.join(strange)}",
            remedy="look at it with `cali plan access`, and bring it in order with `cali up access`",
        )
