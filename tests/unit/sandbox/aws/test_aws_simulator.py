"""IAM's policy simulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import World

TAG = "aws:ResourceTag/team"
GROUP = "arn:aws:autoscaling:ap-northeast-2:123456789012:autoScalingGroup:1:autoScalingGroupName/a"


def role(world: World, name: str, *statements: dict[str, Any]) -> str:
    arn = world.role(name, "ec2.amazonaws.com")
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    world.iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(document))
    return arn


def simulated(world: World, arn: str, *actions: str, resource: str = "*", **tags: str) -> dict[str, str]:
    entries = [
        {"ContextKeyName": f"aws:ResourceTag/{key}", "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in tags.items()
    ]
    found = world.iam.simulate_principal_policy(
        PolicySourceArn=arn, ActionNames=list(actions), ResourceArns=[resource], ContextEntries=entries
    )
    return {each["EvalActionName"]: each["EvalDecision"] for each in found["EvaluationResults"]}


def test_what_is_allowed_denied_and_not_spoken_of(world: World) -> None:
    arn = role(
        world,
        "simulated",
        {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"},
        {"Effect": "Deny", "Action": "ec2:DescribeVpcs", "Resource": "*"},
    )
    assert simulated(world, arn, "ec2:DescribeTags", "ec2:DescribeVpcs", "s3:ListBucket") == {
        "ec2:DescribeTags": "allowed",
        "ec2:DescribeVpcs": "explicitDeny",
        "s3:ListBucket": "implicitDeny",
    }


def test_a_condition_holds_for_what_is_said_of_the_request(world: World) -> None:
    action = "autoscaling:SetDesiredCapacity"
    condition = {"StringEquals": {TAG: "logs"}}
    arn = role(
        world,
        "tagged",
        {"Effect": "Allow", "Action": action, "Resource": "arn:aws:*", "Condition": condition},
    )
    assert simulated(world, arn, action, resource=GROUP, team="logs") == {action: "allowed"}
    assert simulated(world, arn, action, resource=GROUP, team="other") == {action: "implicitDeny"}
    assert simulated(world, arn, action, resource=GROUP) == {action: "implicitDeny"}


def test_a_role_that_iam_does_not_know(world: World, refuses: Callable[..., str]) -> None:
    refuses(
        "NoSuchEntity",
        world.iam.simulate_principal_policy,
        PolicySourceArn=f"arn:aws:iam::{world.aws.account}:role/nobody",
        ActionNames=["s3:ListBucket"],
    )


def test_what_is_not_modelled_is_refused_by_name(world: World, refuses: Callable[..., str]) -> None:
    arn = role(world, "several", {"Effect": "Allow", "Action": "*", "Resource": "*"})
    said = refuses(
        "SandboxNotModelled",
        world.iam.simulate_principal_policy,
        PolicySourceArn=arn,
        ActionNames=["s3:ListBucket"],
        ResourceArns=["arn:aws:s3:::a", "arn:aws:s3:::b"],
    )
    assert "several resources" in said
