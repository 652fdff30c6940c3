"""Whether EKS may use an IAM role: it exists, in this account, and its trust policy names the service.

It owns that question and its answer in EKS' words; permissions are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

from cali_infra.sandbox.aws import policies
from cali_infra.sandbox.aws.eks.state import World
from cali_infra.sandbox.aws.errors import ServiceError


def require(world: World, arn: str, service: str, fields: Mapping[str, str], *more_actions: str) -> None:
    """Raise ServiceError unless EKS may pass the role to `service`; `fields` go into the error."""
    account = arn.split(":")[4] if arn.count(":") >= 5 else ""
    if not world.identities.has_account(account):
        raise ServiceError("AccessDeniedException", f"Cross-account pass role is not allowed: {arn}")
    trust = world.identities.trust_policy(arn)
    # In these words: Terraform's provider takes them for a role that is too young, and tries again.
    if trust is None:
        raise ServiceError("InvalidParameterException", f"Role with arn: {arn} does not exist", fields)
    actions = ("sts:AssumeRole", *more_actions)
    if not policies.service_may(trust, service, actions, {"aws:sourceaccount": account}):
        raise ServiceError(
            "InvalidParameterException",
            f"The trust policy of role {arn} must let {service} do {' and '.join(actions)}",
            fields,
        )
