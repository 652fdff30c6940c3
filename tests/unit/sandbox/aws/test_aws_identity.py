"""What cali asks IAM before it grants: is there such a user or role, since when, and may one ask at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

Refuses = Callable[..., str]


def test_a_user_and_a_role_are_shown_with_their_path_and_age(world: Any) -> None:
    user, role = world.user("shown", "/team/a/"), world.role("Shown", path="/aws-reserved/sso.amazonaws.com/")
    shown_user = world.iam.get_user(UserName="shown")["User"]
    shown_role = world.iam.get_role(RoleName="Shown")["Role"]
    assert (shown_user["Arn"], shown_user["Path"]) == (user, "/team/a/")
    assert (shown_role["Arn"], shown_role["Path"]) == (role, "/aws-reserved/sso.amazonaws.com/")
    for shown in (shown_user, shown_role):
        assert abs(shown["CreateDate"] - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("call", "name"), [("get_user", {"UserName": "nobody"}), ("get_role", {"RoleName": "nobody"})]
)
def test_one_that_there_is_not_is_no_such_entity(
    world: Any, refuses: Refuses, call: str, name: dict[str, str]
) -> None:
    assert "nobody" in refuses("NoSuchEntity", getattr(world.iam, call), **name)


@pytest.mark.parametrize(
    ("operation", "call", "name"),
    [
        ("GetUser", "get_user", {"UserName": "operator"}),
        ("GetRole", "get_role", {"RoleName": "cluster"}),
        ("GetRole", "get_role", {"RoleName": "nobody"}),
    ],
)
def test_iam_can_be_told_not_to_answer(
    world: Any, refuses: Refuses, operation: str, call: str, name: dict[str, str]
) -> None:
    message = f"User: x is not authorized to perform: iam:{operation}"
    fault = {"service": "iam", "operation": operation, "code": "AccessDenied", "status": 403}
    world.control("POST", "faults", {**fault, "message": message})
    assert refuses("AccessDenied", getattr(world.iam, call), **name) == message
    world.iam.list_users()
    assert world.control("GET", "faults") == []


def test_an_entry_tells_what_a_list_shows(world: Any) -> None:
    cluster, arn = world.cluster(), world.user("listed")
    of_listed = {"clusterName": cluster, "principalArn": arn}
    world.eks.create_access_entry(**of_listed, tags={"granted-by": "lead"}, kubernetesGroups=["readers"])
    policy = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    world.eks.associate_access_policy(**of_listed, policyArn=policy, accessScope={"type": "cluster"})
    entry = world.eks.describe_access_entry(**of_listed)["accessEntry"]
    assert entry["createdAt"] <= entry["modifiedAt"]
    assert entry["tags"] == {"granted-by": "lead"}
    assert (entry["kubernetesGroups"], entry["type"], entry["username"]) == (["readers"], "STANDARD", arn)
    [given] = world.eks.list_associated_access_policies(**of_listed)["associatedAccessPolicies"]
    assert given["associatedAt"] >= entry["createdAt"]
