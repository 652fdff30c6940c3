"""Who may assume a role: the trust policy of the role, and the caller's own policies where those have a say.

moto hands out sessions of any role to anybody, also of roles that do not exist. Source: IAM user guide,
"Policy evaluation logic" (within one account, a trust policy that names the principal itself is enough;
one that names the account leaves the decision to the principal's own policies).
"""

from __future__ import annotations

from cali_infra.sandbox.aws import policies
from cali_infra.sandbox.aws.calls import Call, given
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import Identities, Principal
from cali_infra.sandbox.aws.policies import Context, Statement, Verdict

_ACTION = "sts:AssumeRole"
_MODELLED = {"RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId"}


class Gatekeeper:
    """Refuses sessions of roles to those who may not have one."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def assume_role(self, call: Call) -> None:
        """Raise ServiceError unless the caller may assume the role that it asks for."""
        foreign = sorted(k for k, v in call.parameters.items() if k not in _MODELLED and given(v))
        if foreign:
            raise NotImplementedError(f"{', '.join(foreign)} of AssumeRole")
        role, principal = str(call["RoleArn"]), call.principal
        if not self._may(principal, role, _context(call)):
            # For a role that does not exist, too: AWS does not tell which there are.
            raise ServiceError(
                "AccessDenied",
                f"User: {principal.caller_arn} is not authorized to perform: {_ACTION} on resource: {role}",
                status=403,
            )

    def _may(self, principal: Principal, role: str, context: Context) -> bool:
        account = role.split(":")[4] if role.count(":") >= 5 else ""
        if not self._identities.has_account(account):
            raise NotImplementedError(f"AssumeRole into another account ({account})")
        trust = self._identities.trust_policy(role)
        if trust is None:
            return False
        spoken = [each for each in policies.statements(trust) if each.names(_ACTION, None)]
        by_name = policies.verdict([each for each in spoken if _names(each, principal)], context)
        by_account = policies.verdict([each for each in spoken if _names_account(each, account)], context)
        own = policies.permitted(self._identities.policies(principal.arn), _ACTION, role, context)
        if Verdict.DENY in (by_name, by_account, own):
            return False
        return by_name is Verdict.ALLOW or (by_account is Verdict.ALLOW and own is Verdict.ALLOW)


def _names(statement: Statement, principal: Principal) -> bool:
    return bool({"*", principal.arn, principal.caller_arn} & set(statement.principals("AWS")))


def _names_account(statement: Statement, account: str) -> bool:
    return bool({account, f"arn:aws:iam::{account}:root"} & set(statement.principals("AWS")))


def _context(call: Call) -> Context:
    """What the conditions may ask of the request."""
    return {
        "sts:externalid": call.get("ExternalId"),
        "sts:rolesessionname": call.get("RoleSessionName"),
        "aws:principalarn": call.principal.arn,
        "aws:principalaccount": call.account,
    }
