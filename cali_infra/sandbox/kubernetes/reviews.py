"""Questions that are answered and not stored: who am I, and who may do what."""

from __future__ import annotations

from dataclasses import replace

from cali_infra.sandbox.kubernetes.authorization import (
    Action,
    Authorizer,
    User,
    denied,
    service_account_user,
)
from cali_infra.sandbox.kubernetes.catalogue import Resource
from cali_infra.sandbox.kubernetes.errors import Obj, bad_request


def answer(authorizer: Authorizer, resource: Resource, body: object, namespace: str, user: User) -> Obj:
    """A review with its status filled in; `namespace` is the one of the path. Raises ApiError 400."""
    review: Obj = dict(body) if isinstance(body, dict) else {}
    review |= {"apiVersion": resource.api_version, "kind": resource.kind}
    review["metadata"] = {"creationTimestamp": None, **(review.get("metadata") or {})}
    spec = review.get("spec") or {}
    if resource.plural == "selfsubjectreviews":
        info: Obj = {"username": user.name, "groups": list(user.groups)}
        if user.arn:
            info["extra"] = {"arn": [user.arn], "canonicalArn": [user.arn]}
        review["status"] = {"userInfo": info}
    elif resource.plural == "selfsubjectrulesreviews":
        rules = authorizer.rules_for(user, spec.get("namespace", ""))
        review["status"] = {
            "resourceRules": [rule for rule in rules if "resources" in rule],
            "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
            "incomplete": False,
        }
    else:
        if resource.plural != "selfsubjectaccessreviews":
            user = service_account_user(spec.get("user", ""))
            if spec.get("groups"):
                user = replace(user, groups=tuple(spec["groups"]))
        review["status"] = _judgement(authorizer, user, spec, namespace)
    return review


def _judgement(authorizer: Authorizer, user: User, spec: Obj, namespace: str) -> Obj:
    attributes = spec.get("resourceAttributes")
    if attributes is None:
        path = spec.get("nonResourceAttributes") or {}
        if not path:
            raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
        action = Action(path.get("verb", ""), path=path.get("path", ""))
    else:
        action = Action(
            attributes.get("verb", ""),
            attributes.get("group", ""),
            attributes.get("resource", ""),
            attributes.get("subresource", ""),
            attributes.get("namespace", namespace),
            attributes.get("name", ""),
        )
    if authorizer.allows(user, action):
        return {"allowed": True}
    return {"allowed": False, "reason": denied(user, action).message}
