"""Who may assume a role: moto lets everybody, and roles that do not exist too.

It owns the reading of a trust policy for a user or a role of this account. Whether the caller's own policies let
it is not looked at, as nowhere in the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from cali_infra.sandbox.aws.calls import not_modelled
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import Identities, Principal

_ACTIONS = frozenset({"sts:assumerole", "sts:*", "*"})


def check(identities: Identities, caller: Principal, parameters: Mapping[str, str]) -> None:
    """Raise ServiceError unless the caller may assume the role that the call names."""
    arn = parameters.get("RoleArn", "")
    role = identities.role(arn)
    # In the same words whether it exists or not: STS tells nobody which roles there are.
    denied = ServiceError(
        "AccessDenied",
        f"User: {caller.caller_arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
        status=403,
    )
    if role is None:
        raise denied
    policy = json.loads(unquote(str(role.assume_role_policy_document)))
    fitting = [each for each in _many(policy.get("Statement")) if _names(each, caller)]
    if any(each["Effect"] == "Deny" and not each.get("Condition") for each in fitting):
        raise denied
    if any(each["Effect"] == "Allow" and not each.get("Condition") for each in fitting):
        return
    if fitting:
        raise not_modelled("sts", f"the conditions in the trust policy of {arn}")
    raise denied


def _names(statement: Mapping[str, Any], caller: Principal) -> bool:
    """Whether a statement is about this caller assuming the role."""
    if not {str(action).lower() for action in _many(statement.get("Action"))} & _ACTIONS:
        return False
    principals = statement.get("Principal")
    named = _many(principals.get("AWS")) if isinstance(principals, dict) else _many(principals)
    partition = caller.arn.split(":")[1]
    account = f"arn:{partition}:iam::{caller.account}:root"
    return bool({"*", caller.account, account, caller.arn, caller.caller_arn} & set(named))


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]
