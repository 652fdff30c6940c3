"""IAM's policy simulator, which moto lacks: what the policies of a user or role say of an action on a resource.

It owns SimulatePrincipalPolicy as far as one resource at a time and the principal's own policies go. Source: the
IAM API reference, SimulatePrincipalPolicy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cali_infra.sandbox.aws import policies
from cali_infra.sandbox.aws.calls import Call, given
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import Identities
from cali_infra.sandbox.aws.policies import Known, Verdict

_MODELLED = {"PolicySourceArn", "ActionNames", "ResourceArns", "ContextEntries"}
_DECISIONS = {Verdict.ALLOW: "allowed", Verdict.DENY: "explicitDeny", Verdict.SILENT: "implicitDeny"}


class Simulator:
    """Answers the simulator's question in moto's place."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def principal_policy(self, call: Call) -> Mapping[str, Any]:
        """Simulate each action on the one resource; raises ServiceError for a principal that IAM does not know."""
        foreign = sorted(k for k, v in call.parameters.items() if k not in _MODELLED and given(v))
        resources = list(call.get("ResourceArns") or ["*"])
        if foreign or len(resources) > 1:
            raise NotImplementedError(
                f"{', '.join(foreign) or 'several resources'} of SimulatePrincipalPolicy"
            )
        arn = str(call["PolicySourceArn"])
        if self._identities.unique_id(arn) is None:
            raise ServiceError("NoSuchEntity", f"The principal {arn} cannot be found.", status=404)
        known = Known(
            {
                str(entry["ContextKeyName"]).lower(): str(entry["ContextKeyValues"][0])
                for entry in call.get("ContextEntries") or ()
            }
        )
        documents = self._identities.policies(arn)
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": resources[0],
                "EvalDecision": _DECISIONS[policies.permitted(documents, action, resources[0], known)],
                "MatchedStatements": [],
                "MissingContextValues": [],
            }
            for action in call["ActionNames"]
        ]
        return {"EvaluationResults": results, "IsTruncated": False}
