"""What a role may do, as IAM's policy simulator tells it; and the Auto Scaling groups that it may do it to.

It takes clients and leaves botocore's exceptions to the door, `aws.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ScalingGroup:
    """An Auto Scaling group with its tags."""

    name: str
    arn: str
    tags: Mapping[str, str]


def denied(
    iam: Any, role: str, actions: Sequence[str], resource: str, context: Mapping[str, str]
) -> tuple[str, ...]:
    """Those of the actions that the role's policies do not allow on a resource; `context` are condition keys."""
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in context.items()
    ]
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=role, ActionNames=list(actions), ResourceArns=[resource], ContextEntries=entries
    )
    results = [result for page in pages for result in page["EvaluationResults"]]
    return tuple(each["EvalActionName"] for each in results if each["EvalDecision"] != "allowed")


def scaling_groups(autoscaling: Any, names: Collection[str]) -> tuple[ScalingGroup, ...]:
    """The groups of these names that there are."""
    if not names:
        return ()
    pages = autoscaling.get_paginator("describe_auto_scaling_groups").paginate(
        AutoScalingGroupNames=sorted(names)
    )
    return tuple(
        ScalingGroup(
            group["AutoScalingGroupName"],
            group["AutoScalingGroupARN"],
            {tag["Key"]: tag["Value"] for tag in group.get("Tags") or ()},
        )
        for page in pages
        for group in page["AutoScalingGroups"]
    )
