"""A change of the record that reaches some principals and nothing else, over a stack that only remembers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from typing import Any, cast

import pytest

from cali_infra.adapters.aws_access import AccessEntry, PolicyAssociation
from cali_infra.adapters.terraform_state import StateResource, StateSnapshot
from cali_infra.core import access
from cali_infra.core.access import Entry, Record
from cali_infra.core.access_change import AccessStack, HeldTurn, adoptions
from cali_infra.core.progress import Progress, Silent
from cali_infra.core.stacks import Import, Scope, StackPlan, TerraformStage
from cali_infra.core.stages import BY_NAME
from cali_infra.errors import (
    GuardedChangeError,
    LeaseLostError,
    PreconditionError,
    RefusedError,
    StalePlanError,
    UsageError,
)
from cali_infra.plans import Action, ResourceChange

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARN = "arn:aws:iam::123456789012:user/jin"
OTHER = "arn:aws:iam::123456789012:user/mina"
JIN = Entry(ARN, "Jin", "admin")
MINA = Entry(OTHER, "Mina", "view", ("airflow",))


class Stack:
    """The driver of the stack as far as a change uses it; what it would plan is what differs, or `strange`."""

    def __init__(self) -> None:
        self.variables: Callable[[], dict[str, object]] = dict
        self.imports: Callable[[], Sequence[Import]] = tuple
        self.state: dict[str, Any] = {"principals": {}, "revoked": {}}
        self.strange: tuple[str, ...] = ()
        self.stale = 0
        self.on_stale: Callable[[], None] = lambda: None
        self.scopes: list[Scope] = []
        self.did: list[str] = []

    def open(self, cancel: Event) -> None:
        self.did.append("open")

    def outputs(self) -> dict[str, Any]:
        return {"record": self.state}

    @property
    def snapshot(self) -> StateSnapshot:
        found = [access.instance(access.ENTRY, arn) for arn in self.state["principals"]]
        return StateSnapshot(
            True,
            resources=tuple(
                StateResource(address, "aws_eks_access_entry", "this", "managed") for address in found
            ),
        )

    def plan(self, watch: Progress, cancel: Event, scope: Scope) -> StackPlan:
        self.scopes.append(scope)
        self.did.append("plan")
        self.imports()
        wanted = self.variables()
        changes = [ResourceChange(access.RECORD, Action.UPDATE)] if wanted != self.state else []
        changes += [ResourceChange(address, Action.UPDATE) for address in self.strange]
        self.planned = wanted
        return StackPlan(access.STACK, tuple(changes))

    def apply(self, plan: StackPlan, watch: Progress, cancel: Event) -> None:
        if self.stale:
            self.stale -= 1
            self.on_stale()
            raise StalePlanError("access: the state has moved on")
        self.did.append("apply")
        self.state = dict(self.planned)

    def discard(self) -> None:
        self.did.append("discard")


def variables(record: Record) -> dict[str, object]:
    return {
        "principals": {arn: entry.variable() for arn, entry in record.entries.items()},
        "revoked": {arn: gone.variable() for arn, gone in record.revoked.items()},
    }


class Turn:
    """A turn that remembers, and may be lost."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lost = False

    def check(self) -> None:
        self.events.append("check")
        if self.lost:
            raise LeaseLostError("somebody else has it")

    @contextmanager
    def __call__(self, watch: Progress, cancel: Event) -> Iterator[HeldTurn]:
        self.events.append("taken")
        try:
            yield self
        finally:
            self.events.append("given back")


def made(
    stack: Stack, turn: Turn | None = None, entries: Sequence[AccessEntry] = (), needs: Sequence[Any] = ()
) -> AccessStack:
    def make(
        wanted: Callable[[], dict[str, object]], imports: Callable[[], Sequence[Import]]
    ) -> TerraformStage:
        stack.variables, stack.imports = wanted, imports
        return cast(TerraformStage, stack)

    def look(arns: Collection[str]) -> Sequence[AccessEntry]:
        return [entry for entry in entries if entry.principal_arn in arns]

    return AccessStack(
        make=make, needs=needs, variables=variables, entries=look, cluster="demo", turn=turn or Turn()
    )


def grant(*entries: Entry) -> Callable[[Record], Record]:
    return lambda record: access.granted(record, entries)


def test_only_the_principals_addresses_are_planned() -> None:
    stack = Stack()
    changed = made(stack).change(grant(JIN), [ARN], Silent(), Event())
    assert changed.record.entries[ARN].name == "Jin"
    assert stack.scopes == [Scope((access.RECORD, *access.addresses(ARN)))]
    assert stack.did[-2:] == ["apply", "discard"]


def test_a_path_with_quotes_is_written_as_terraform_writes_it() -> None:
    odd = 'arn:aws:iam::123456789012:user/a"b${c}/jin'
    assert access.instance(access.ENTRY, odd) == (
        'aws_eks_access_entry.this["arn:aws:iam::123456789012:user/a\\"b$${c}/jin"]'
    )


def test_a_plan_that_reaches_further_is_refused_and_nothing_is_applied() -> None:
    stack = Stack()
    stack.strange = (access.instance(access.ENTRY, OTHER),)
    with pytest.raises(GuardedChangeError, match="more than these principals") as caught:
        made(stack).change(grant(JIN), [ARN], Silent(), Event())
    assert caught.value.addresses == (access.instance(access.ENTRY, OTHER),)
    assert "apply" not in stack.did


def test_whoever_was_faster_is_not_lost() -> None:
    stack = Stack()
    stack.stale = 2

    def mina_is_granted() -> None:
        stack.state = variables(access.granted(access.from_output(stack.state), [MINA]))

    stack.on_stale = mina_is_granted
    changed = made(stack).change(grant(JIN), [ARN], Silent(), Event())
    assert set(changed.record.entries) == {ARN, OTHER}
    assert stack.did.count("plan") == 3


def test_a_state_that_never_rests_ends_the_command() -> None:
    stack = Stack()
    stack.stale = 100
    with pytest.raises(StalePlanError):
        made(stack).change(grant(JIN), [ARN], Silent(), Event())
    assert stack.did[-1] == "discard"


def test_everything_happens_within_the_turn_which_is_checked_before_the_apply() -> None:
    stack, turn = Stack(), Turn()
    made(stack, turn).change(grant(JIN), [ARN], Silent(), Event(), check=lambda: turn.events.append("looked"))
    assert turn.events == ["taken", "looked", "check", "given back"]

    turn.lost = True
    stack.did.clear()
    with pytest.raises(LeaseLostError):
        made(stack, turn).change(grant(MINA), [OTHER], Silent(), Event())
    assert "apply" not in stack.did


def test_what_is_refused_within_the_turn_changes_nothing() -> None:
    def refuse() -> None:
        raise RefusedError("the last admin")

    stack, turn = Stack(), Turn()
    with pytest.raises(RefusedError):
        made(stack, turn).change(grant(JIN), [ARN], Silent(), Event(), check=refuse)
    assert stack.did == []
    assert turn.events[-1] == "given back"


def test_nothing_to_do_is_no_apply() -> None:
    stack = Stack()
    one = made(stack)
    one.change(grant(JIN), [ARN], Silent(), Event())
    stack.did.clear()
    assert one.change(grant(JIN), [ARN], Silent(), Event()).plan.empty
    assert stack.did == ["open", "plan"]


def test_an_entry_that_is_made_anew_takes_its_association_along() -> None:
    stack = Stack()
    made(stack).change(grant(JIN), [ARN], Silent(), Event(), anew=[ARN])
    assert stack.scopes[0].replace == access.addresses(ARN)[:2]


def test_without_a_cluster_there_is_nothing_to_change() -> None:
    class Unbuilt:
        stage = BY_NAME["eks"]

        def open(self, cancel: Event) -> None: ...

        def complete(self) -> bool:
            return False

    with pytest.raises(PreconditionError, match="eks was never applied"):
        made(Stack(), needs=[Unbuilt()]).open(Event())


# -- entries that are there already -------------------------------------------------------------------------


def by_hand(*policies: str, kind: str = "STANDARD") -> AccessEntry:
    prefix = "arn:aws:eks::aws:cluster-access-policy/"
    found = tuple(PolicyAssociation(prefix + name, "cluster", (), NOW) for name in policies)
    return AccessEntry(ARN, kind, (), "", {}, NOW, found)


def adopted(entry: AccessEntry, wanted: Entry = JIN, state: StateSnapshot | None = None) -> list[str]:
    found = adoptions(
        state or StateSnapshot(),
        Record({ARN: wanted}, {}),
        lambda arns: [entry] if ARN in arns else [],
        "demo",
    )
    return [one.identifier for one in found]


def test_an_entry_made_by_hand_is_imported_with_the_policy_that_fits() -> None:
    policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"
    found = adopted(by_hand("AmazonEKSViewPolicy", "AmazonEKSClusterAdminPolicy"))
    assert found == [f"demo:{ARN}", f"demo#{ARN}#{policy}"]


def test_without_the_one_that_fits_another_is_taken_over_and_without_any_none() -> None:
    view = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    assert adopted(by_hand("AmazonEKSViewPolicy"), replace(JIN, level="edit"))[1] == f"demo#{ARN}#{view}"
    assert adopted(by_hand()) == [f"demo:{ARN}"]


def test_what_the_state_has_is_not_looked_up() -> None:
    there = StateResource(access.instance(access.ENTRY, ARN), "aws_eks_access_entry", "this", "managed")
    assert adopted(by_hand("AmazonEKSViewPolicy"), state=StateSnapshot(True, resources=(there,))) == []


def test_a_nodes_entry_is_no_persons() -> None:
    with pytest.raises(UsageError, match="EC2_LINUX"):
        adopted(by_hand(kind="EC2_LINUX"))
