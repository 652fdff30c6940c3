"""Whether EKS may use an IAM role: it exists, in this account, and its trust policy names the service.

It owns this reading of trust policies; permissions are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from cali_infra.sandbox.aws.eks.state import World
from cali_infra.sandbox.aws.errors import ServiceError


def trusts(role: Any, service: str, *actions: str) -> bool:
    """Whether a role's trust policy lets `service` do every one of `actions`."""
    policy = json.loads(unquote(str(role.assume_role_policy_document)))
    allowed: set[str] = set()
    for statement in _many(policy.get("Statement")):
        principals = statement.get("Principal")
        services = _many(principals.get("Service")) if isinstance(principals, dict) else []
        if statement.get("Effect") == "Allow" and service in services:
            allowed.update(action.lower() for action in _many(statement.get("Action")))
    return all({action.lower(), "sts:*", "*"} & allowed for action in actions)


def require(world: World, arn: str, service: str, fields: Mapping[str, str], *more_actions: str) -> None:
    """Raise ServiceError unless EKS may pass the role to `service`; `fields` go into the error."""
    account = arn.split(":")[4] if arn.count(":") >= 5 else ""
    if not world.identities.has_account(account):
        raise ServiceError("AccessDeniedException", f"Cross-account pass role is not allowed: {arn}")
    role = world.identities.role(arn)
    # In these words: Terraform's provider takes them for a role that is too young, and tries again.
    if role is None:
        raise ServiceError("InvalidParameterException", f"Role with arn: {arn} does not exist", fields)
    actions = ("sts:AssumeRole", *more_actions)
    if not trusts(role, service, *actions):
        raise ServiceError(
            "InvalidParameterException",
            f"The trust policy of role {arn} must let {service} do {' and '.join(actions)}",
            fields,
        )


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]
