"""Record, cluster and local file side by side: who has access, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cali_infra.adapters.aws_access import AccessEntry, PolicyAssociation
from cali_infra.adapters.aws_iam import PrincipalState, Standing
from cali_infra.core.access import EXPIRY, Entry, Record, Revocation
from cali_infra.core.access_list import Row, Sources, Status, rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
THEN = datetime(2026, 2, 1, tzinfo=UTC)
CREATOR = "arn:aws:iam::123456789012:role/lead"
ARN = "arn:aws:iam::123456789012:user/jin"
JIN = Entry(ARN, "Jin", "admin", (), None, CREATOR, "2026-02-01T00:00:00Z")


def policy(name: str = "AmazonEKSClusterAdminPolicy", *namespaces: str) -> PolicyAssociation:
    scope = "namespace" if namespaces else "cluster"
    return PolicyAssociation(f"arn:aws:eks::aws:cluster-access-policy/{name}", scope, namespaces, THEN)


def entry(arn: str = ARN, *policies: PolicyAssociation, **changes: Any) -> AccessEntry:
    made = AccessEntry(arn, "STANDARD", (), "", {}, THEN, policies)
    return replace(made, **changes)


def listed(
    recorded: Sequence[Entry] = (),
    cluster: Sequence[AccessEntry] = (),
    local: Sequence[Entry] = (),
    revoked: Sequence[Revocation] = (),
    **more: Any,
) -> tuple[Row, ...]:
    record = Record({one.arn: one for one in recorded}, {one.arn: one for one in revoked})
    return rows(Sources(record, cluster, local, CREATOR, more.get("born", {}), more.get("users", {})), NOW)


def test_whole_access_has_nothing_to_say() -> None:
    (row,) = listed([JIN], [entry(ARN, policy())], [JIN])
    assert (row.status, row.source, row.notes) == (Status.ACTIVE, "state", ())
    assert row.document() == {
        "arn": ARN,
        "name": "Jin",
        "level": "admin",
        "namespaces": [],
        "expires_at": None,
        "status": "active",
        "source": "state",
        "granted_by": CREATOR,
        "granted_at": "2026-02-01T00:00:00Z",
        "opensearch_user": None,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("level", "namespaces", "name"),
    [
        ("admin", (), "AmazonEKSClusterAdminPolicy"),
        ("admin", ("airflow",), "AmazonEKSAdminPolicy"),
        ("edit", (), "AmazonEKSEditPolicy"),
        ("view", ("airflow",), "AmazonEKSViewPolicy"),
    ],
)
def test_each_level_has_its_policy(level: str, namespaces: tuple[str, ...], name: str) -> None:
    wanted = replace(JIN, level=level, namespaces=namespaces)
    (row,) = listed([wanted], [entry(ARN, policy(name, *namespaces))])
    assert row.status is Status.ACTIVE
    assert row.notes == ()


def test_an_entry_without_its_policy_gives_nothing() -> None:
    (row,) = listed([JIN], [entry(ARN, policy("AmazonEKSViewPolicy"))])
    assert row.status is Status.MISSING_POLICY
    assert "should have AmazonEKSClusterAdminPolicy, has AmazonEKSViewPolicy" in row.notes[0]


def test_one_on_record_without_an_entry_is_missing() -> None:
    (row,) = listed([JIN])
    assert (row.status, row.source) == (Status.MISSING, "state")


@pytest.mark.parametrize(("there", "words"), [(True, "still in the cluster"), (False, "AWS has taken")])
def test_an_access_that_is_over(there: bool, words: str) -> None:
    over = replace(JIN, until="2026-03-01T12:00:00Z")
    (row,) = listed([over], [entry(ARN, policy())] if there else [])
    assert row.status is Status.EXPIRED
    assert words in row.notes[0]


def test_an_entry_made_by_hand_is_shown_with_what_it_gives() -> None:
    (row,) = listed(
        cluster=[entry(ARN, policy("AmazonEKSViewPolicy", "b", "a"), policy("AmazonEKSEditPolicy"))]
    )
    assert (row.status, row.source, row.level, row.namespaces) == (
        Status.UNMANAGED,
        "cluster",
        "edit",
        ("a", "b"),
    )
    assert "made by hand" in row.notes[0]


def test_the_creator_is_shown_and_not_managed_also_when_the_local_file_lists_it() -> None:
    found = listed(cluster=[entry(CREATOR, policy())], local=[replace(JIN, arn=CREATOR)])
    assert [(row.arn, row.status) for row in found] == [(CREATOR, Status.UNMANAGED)]
    assert "created the cluster" in found[0].notes[0]


def test_the_nodes_own_entries_are_nobodys_access() -> None:
    assert listed(cluster=[entry("arn:aws:iam::123456789012:role/nodes", kind="EC2_LINUX")]) == ()


def test_who_was_revoked_and_came_back_by_hand_is_told() -> None:
    gone = Revocation(ARN, "Jin", "2026-02-20T00:00:00Z", CREATOR)
    (row,) = listed(cluster=[entry(ARN, policy())], revoked=[gone])
    assert "revoked on 2026-02-20T00:00:00Z" in row.notes[0]


def test_more_than_the_record_says_is_told() -> None:
    found = entry(ARN, policy(), policy("AmazonEKSViewPolicy", "airflow"), groups=("auditors",))
    (row,) = listed([JIN], [found])
    assert row.status is Status.ACTIVE
    assert row.notes == (
        "also has AmazonEKSViewPolicy, which cali did not give",
        "also in the Kubernetes groups auditors",
    )
    (scoped,) = listed([replace(JIN, level="view")], [entry(ARN, policy("AmazonEKSViewPolicy", "airflow"))])
    assert scoped.notes == ("in the cluster its scope is airflow",)


def test_a_principal_made_anew_has_a_dead_entry() -> None:
    anew = PrincipalState(ARN, Standing.EXISTS, ARN, "AIDA2", NOW)
    (row,) = listed([JIN], [entry(ARN, policy())], born={ARN: anew})
    assert "made anew in IAM" in row.notes[0]
    absent = PrincipalState(ARN, Standing.ABSENT)
    (row,) = listed([JIN], [entry(ARN, policy())], born={ARN: absent})
    assert "no such principal any more" in row.notes[0]
    unknown = PrincipalState(ARN, Standing.MAY_NOT_ASK)
    (row,) = listed([JIN], [entry(ARN, policy())], born={ARN: unknown})
    assert row.notes == ()


def test_a_line_of_the_local_file_alone() -> None:
    (row,) = listed(local=[JIN])
    assert (row.status, row.source) == (Status.PENDING, "secrets")
    gone = Revocation(ARN, "Jin", "2026-02-20T00:00:00Z", EXPIRY)
    (row,) = listed(local=[JIN], revoked=[gone])
    assert "by its expiry: the line in secrets.yaml has no effect" in row.notes[0]
    (row,) = listed(local=[replace(JIN, until="2026-02-01T00:00:00Z")])
    assert row.status is Status.EXPIRED


def test_everybody_stands_in_the_order_of_the_names() -> None:
    mina = replace(JIN, arn=ARN + "2", name="mina")
    found = listed([mina, JIN], [entry(ARN, policy())], [replace(JIN, arn=ARN + "3", name="Abel")])
    assert [row.name for row in found] == ["Abel", "Jin", "mina"]


def test_the_user_of_the_domain_is_shown() -> None:
    (row,) = listed([JIN], [entry(ARN, policy())], users={ARN: "jin"})
    assert row.search_user == "jin"
