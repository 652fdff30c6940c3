"""Who may assume a role: whom its trust policy names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Refuses = Callable[..., str]


def role(world: Any, name: str, *statements: dict[str, Any]) -> str:
    trust = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    made = world.iam.create_role(RoleName=name, Path="/trust/", AssumeRolePolicyDocument=trust)
    return str(made["Role"]["Arn"])


def allow(principal: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}


@pytest.mark.parametrize("named", ["*", "{account}", "arn:aws:iam::{account}:root", "{operator}"])
def test_a_role_that_trusts_the_caller_is_assumed(world: Any, named: str) -> None:
    principal = named.format(account=world.aws.account, operator=world.aws.operator.arn)
    arn = role(
        world, f"trusting-{next(world.names)}", allow({"AWS": ["arn:aws:iam::999999999999:root", principal]})
    )
    made = world.client("sts").assume_role(RoleArn=arn, RoleSessionName="kim")
    assert made["AssumedRoleUser"]["Arn"].endswith("/kim")


@pytest.mark.parametrize(
    "principal",
    [{"AWS": "arn:aws:iam::123456789012:user/another"}, {"Service": "ec2.amazonaws.com"}],
)
def test_a_role_that_trusts_others_is_not(world: Any, refuses: Refuses, principal: dict[str, str]) -> None:
    arn = role(world, f"closed-{next(world.names)}", allow(principal))
    said = refuses("AccessDenied", world.client("sts").assume_role, RoleArn=arn, RoleSessionName="kim")
    assert world.aws.operator.arn in said


def test_a_role_that_denies_the_caller_is_not(world: Any, refuses: Refuses) -> None:
    deny = allow({"AWS": world.aws.operator.arn}) | {"Effect": "Deny"}
    arn = role(world, "denying", allow("*"), deny)
    refuses("AccessDenied", world.client("sts").assume_role, RoleArn=arn, RoleSessionName="kim")


def test_a_role_that_does_not_exist_is_not_told_from_one_that_is_closed(world: Any, refuses: Refuses) -> None:
    arn = f"arn:aws:iam::{world.aws.account}:role/nobody"
    refuses("AccessDenied", world.client("sts").assume_role, RoleArn=arn, RoleSessionName="kim")


def test_conditions_are_refused_by_name(world: Any, refuses: Refuses) -> None:
    condition = {"StringEquals": {"sts:ExternalId": "x"}}
    arn = role(world, "conditional", allow({"AWS": "*"}, Condition=condition))
    said = refuses("SandboxNotModelled", world.client("sts").assume_role, RoleArn=arn, RoleSessionName="kim")
    assert "conditions" in said
