"""The targets of schedules: which there are, what a schedule may say of them, and how one is called.

It owns the universal target that deletes an EKS access entry; every other target is refused by name when a
schedule asks for it. A target is called as AWS does it: with the schedule's role, if the role trusts the
scheduler and its policies allow the action on that very entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cali_infra.sandbox.aws import policies
from cali_infra.sandbox.aws.calls import Call, given, not_modelled
from cali_infra.sandbox.aws.controls import Controls
from cali_infra.sandbox.aws.eks.service import Eks
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import PRINCIPAL_ARN, Identities, Principal
from cali_infra.sandbox.aws.policies import Verdict
from cali_infra.sandbox.aws.scheduler.state import (
    MAXIMUM_AGE,
    MAXIMUM_RETRIES,
    Schedule,
    group_arn,
    invalid,
)

SERVICE = "scheduler.amazonaws.com"
ACTION = "eks:DeleteAccessEntry"
SEND = "sqs:SendMessage"
_TARGET = re.compile(r"arn:aws[a-z-]*:scheduler:::aws-sdk:(?P<service>[^:]+):(?P<action>[^:]+)")
# Fixed by the pattern in the service's description: a queue that is first in, first out has a dot in its name.
_QUEUE = re.compile(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+")
_KNOWN = {"Arn", "RoleArn", "Input", "RetryPolicy", "DeadLetterConfig"}
# The parameters of the API in capitals, although EKS itself spells them clusterName and principalArn. With
# those AWS refuses the schedule, in the words below: seen in public reports of eks:updateNodegroupConfig.
_FIELDS = ("ClusterName", "PrincipalArn")


class Targets:
    """Checks targets, and calls them."""

    def __init__(self, identities: Identities, controls: Controls, eks: Eks) -> None:
        self._identities = identities
        self._controls = controls
        self._eks = eks

    def check(self, call: Call, group: str) -> dict[str, Any]:
        """The target that a schedule asks for, with its defaults; raises ServiceError for a wrong one."""
        target = dict(call["Target"])
        foreign = sorted(key for key in target.keys() - _KNOWN if given(target[key]))
        if foreign:
            raise not_modelled("scheduler", f"{', '.join(foreign)} of a target")
        found = _TARGET.fullmatch(target["Arn"])
        if found is None or (found["service"], found["action"]) != ("eks", "deleteAccessEntry"):
            raise not_modelled("scheduler", f"the target {target['Arn']}")
        _input(target.get("Input"))
        self._check_role(target["RoleArn"], call, group)
        queue = target.get("DeadLetterConfig", {}).get("Arn")
        if queue is not None and not _QUEUE.fullmatch(queue):
            raise invalid(f"The dead-letter queue is not a standard queue of SQS: {queue}")
        return {**target, "RetryPolicy": _retries(target.get("RetryPolicy", {}))}

    def invoke(self, schedule: Schedule, execution: str) -> None:
        """Call a schedule's target; raises ServiceError when it, or IAM, refuses."""
        wanted = _input(schedule.target.get("Input"))
        cluster, principal = wanted["ClusterName"], wanted["PrincipalArn"]
        caller = self.assume(schedule, execution)
        self.require(caller, ACTION, self._entry_arn(schedule, cluster, principal))
        self._controls.called("eks", "DeleteAccessEntry")
        parameters = {"clusterName": cluster, "principalArn": principal}
        self._eks.answer(Call("DeleteAccessEntry", parameters, schedule.region, caller))

    def assume(self, schedule: Schedule, execution: str) -> Principal:
        """The session of a schedule's role; raises ServiceError when the role trusts the scheduler no more."""
        role = str(schedule.target["RoleArn"])
        if not self._trusts(role, schedule.account, schedule.group_arn):
            raise ServiceError(
                "AccessDeniedException", f"{SERVICE} is not authorized to perform: sts:AssumeRole on {role}"
            )
        return Principal(role, self._identities.unique_id(role) or "", schedule.account, execution)

    def require(self, principal: Principal, action: str, resource: str) -> None:
        """Raise ServiceError unless the principal's own policies allow an action."""
        documents = self._identities.policies(principal.arn)
        if policies.permitted(documents, action, resource, {}) is not Verdict.ALLOW:
            raise ServiceError(
                "AccessDeniedException",
                f"User: {principal.caller_arn} is not authorized to perform: {action} on resource: {resource}",
            )

    def _check_role(self, role: str, call: Call, group: str) -> None:
        match = PRINCIPAL_ARN.match(role)
        if match is None or match["kind"] != "role":
            raise invalid(f"RoleArn is not the ARN of an IAM role: {role}")
        if match["account"] != call.account:
            raise ServiceError("AccessDeniedException", f"Cross-account pass role is not allowed: {role}")
        if not self._trusts(role, call.account, group_arn(call.account, call.region, group)):
            # In these words: Terraform's provider takes them for a role that is too young, and tries again.
            raise invalid(
                "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
            )
        # The role may get its rights later. What cannot be judged is said now, to whoever makes the schedule.
        for action in (ACTION, SEND):
            policies.permitted(self._identities.policies(role), action, None, {})

    def _entry_arn(self, schedule: Schedule, cluster: str, principal: str) -> str:
        """The ARN of a principal's entry, by which IAM allows to delete it; without one, an ARN like it."""
        entry = self._eks.entry(cluster, principal)
        if entry is not None:
            return entry.arn
        match = PRINCIPAL_ARN.match(principal)
        owner = f"{match['kind']}/{match['account']}/{match['name'].rsplit('/', 1)[-1]}" if match else "none"
        return f"arn:aws:eks:{schedule.region}:{schedule.account}:access-entry/{cluster}/{owner}/none"

    def _trusts(self, role: str, account: str, group: str) -> bool:
        trust = self._identities.trust_policy(role)
        # AWS gives a schedule's group as the source, never the schedule itself.
        context = {"aws:sourceaccount": account, "aws:sourcearn": group}
        return trust is not None and policies.service_may(trust, SERVICE, ["sts:AssumeRole"], context)


def _input(text: str | None) -> Mapping[str, str]:
    """The parameters of the call; raises ServiceError for ones that AWS refuses or that are not known here."""
    try:
        fields = json.loads(text or "{}")
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise invalid("Invalid RequestJson provided. Reason Request payload is not a JSON object.")
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise invalid(
            "Invalid RequestJson provided. Reason Request payload is missing the following field(s):"
            f" {', '.join(missing)}."
        )
    odd = [name for name, value in fields.items() if name not in _FIELDS or not isinstance(value, str)]
    if odd:
        raise not_modelled("scheduler", f"{', '.join(odd)} in the input of eks:deleteAccessEntry")
    return fields


def _retries(policy: Mapping[str, int]) -> dict[str, int]:
    age = policy.get("MaximumEventAgeInSeconds", MAXIMUM_AGE)
    attempts = policy.get("MaximumRetryAttempts", MAXIMUM_RETRIES)
    if not 60 <= age <= MAXIMUM_AGE:
        raise invalid(f"MaximumEventAgeInSeconds is 60 to {MAXIMUM_AGE}, not {age}")
    if not 0 <= attempts <= MAXIMUM_RETRIES:
        raise invalid(f"MaximumRetryAttempts is 0 to {MAXIMUM_RETRIES}, not {attempts}")
    return {"MaximumEventAgeInSeconds": age, "MaximumRetryAttempts": attempts}
