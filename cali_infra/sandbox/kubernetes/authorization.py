"""Who may do what: EKS access policies first, then the cluster's own RBAC objects.

An access entry alone gives nothing; a policy gives the rules of the role of the same name, on the whole
cluster or in namespaces; RBAC bindings add to that for the entry's user name and groups. Source: "Review
access policy permissions" of the EKS user guide and the default ClusterRoles of Kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from cali_infra.sandbox.kubernetes.catalogue import Catalogue
from cali_infra.sandbox.kubernetes.errors import ApiError, Obj, forbidden
from cali_infra.sandbox.kubernetes.store import Store
from cali_infra.sandbox.ports import AccessPolicy

_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_ALL = [*_READ, *_WRITE]
_WORKLOADS: list[tuple[str, list[str]]] = [
    (
        "",
        [
            "configmaps", "endpoints", "persistentvolumeclaims", "pods", "pods/log", "pods/status",
            "replicationcontrollers", "serviceaccounts", "services",
        ],
    ),
    (
        "apps",
        [
            "controllerrevisions", "daemonsets", "deployments", "deployments/scale", "replicasets",
            "replicasets/scale", "statefulsets", "statefulsets/scale",
        ],
    ),
    ("autoscaling", ["horizontalpodautoscalers"]),
    ("batch", ["cronjobs", "jobs"]),
    ("networking.k8s.io", ["ingresses", "networkpolicies"]),
    ("policy", ["poddisruptionbudgets"]),
]  # fmt: skip
_READ_ONLY = ["bindings", "events", "limitranges", "namespaces", "resourcequotas", "pods/status"]


def _rules(verbs: list[str], *, secrets: bool, roles: bool) -> list[Obj]:
    rules: list[Obj] = [
        {"apiGroups": [group], "resources": resources, "verbs": verbs} for group, resources in _WORKLOADS
    ]
    rules.append({"apiGroups": [""], "resources": _READ_ONLY, "verbs": _READ})
    if secrets:
        rules.append({"apiGroups": [""], "resources": ["secrets"], "verbs": verbs})
    if verbs != _READ:
        resources = [
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "services/proxy",
            "pods/eviction",
        ]
        rules.append({"apiGroups": [""], "resources": resources, "verbs": _ALL})
    if roles:
        rules.append({"apiGroups": [_RBAC], "resources": ["roles", "rolebindings"], "verbs": _ALL})
        rules.append(
            {
                "apiGroups": ["authorization.k8s.io"],
                "resources": ["localsubjectaccessreviews"],
                "verbs": ["create"],
            }
        )
    return rules


CLUSTER_ROLES: Mapping[str, list[Obj]] = {
    "cluster-admin": [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "admin": _rules(_ALL, secrets=True, roles=True),
    "edit": _rules(_ALL, secrets=True, roles=False),
    "view": _rules(_READ, secrets=False, roles=False),
}
_POLICIES: Mapping[str, list[Obj]] = {
    "AmazonEKSClusterAdminPolicy": CLUSTER_ROLES["cluster-admin"],
    "AmazonEKSAdminPolicy": CLUSTER_ROLES["admin"],
    "AmazonEKSEditPolicy": CLUSTER_ROLES["edit"],
    "AmazonEKSViewPolicy": CLUSTER_ROLES["view"],
    "AmazonEKSAdminViewPolicy": [{"apiGroups": ["*"], "resources": ["*"], "verbs": _READ}],
}
# What everybody who is authenticated may ask: about himself.
_SELF = ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")


@dataclass(frozen=True)
class User:
    """Whom a request is made for; `policies` are those of the EKS access entry."""

    name: str
    groups: tuple[str, ...]
    policies: tuple[AccessPolicy, ...] = ()
    arn: str = ""
    is_admin: bool = False


@dataclass(frozen=True)
class Action:
    """What is asked for; `path` is set for what is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def what(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


class Authorizer:
    """Judges actions in one cluster."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    def allows(self, user: User, action: Action) -> bool:
        """True when a policy or a binding gives the right."""
        if action.group in ("authentication.k8s.io", "authorization.k8s.io") and action.resource in _SELF:
            return True
        if user.is_admin or "system:masters" in user.groups:
            return True
        for policy in user.policies:
            if self._in_scope(policy, action) and _grants(_POLICIES.get(policy.name, ()), action):
                return True
        return any(_grants(rules, action) for rules in self._bound(user, action.namespace))

    def demand(self, user: User, action: Action) -> None:
        """Raises ApiError 403 in the real server's words unless the action is allowed."""
        if not self.allows(user, action):
            raise denied(user, action)

    def rules_for(self, user: User, namespace: str) -> list[Obj]:
        """The RBAC rules of a user in a namespace; access policies do not show here, as on EKS."""
        return [rule for rules in self._bound(user, namespace) for rule in rules]

    @staticmethod
    def _in_scope(policy: AccessPolicy, action: Action) -> bool:
        if not policy.namespaces:
            return True
        scope = action.namespace
        # A namespace itself is read in its own scope.
        if action.resource == "namespaces" and not action.group and action.verb == "get":
            scope = action.name
        return bool(scope) and any(fnmatchcase(scope, pattern) for pattern in policy.namespaces)

    def _bound(self, user: User, namespace: str) -> Iterator[list[Obj]]:
        bindings = self._store.all(self._catalogue.named(_RBAC, "clusterrolebindings"))
        if namespace:
            bindings = bindings + self._store.all(self._catalogue.named(_RBAC, "rolebindings"), namespace)
        for binding in bindings:
            if any(_is_subject(item, user) for item in binding.get("subjects") or ()):
                yield self._role(binding)

    def _role(self, binding: Obj) -> list[Obj]:
        reference = binding["roleRef"]
        if reference["kind"] == "ClusterRole":
            role = self._store.get(self._catalogue.named(_RBAC, "clusterroles"), ("", reference["name"]))
        else:
            key = (binding["metadata"].get("namespace", ""), reference["name"])
            role = self._store.get(self._catalogue.named(_RBAC, "roles"), key)
        return list((role or {}).get("rules") or ())


def denied(user: User, action: Action) -> ApiError:
    """403: `nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope`."""
    if action.path:
        return forbidden(
            f'forbidden: User "{user.name}" cannot {action.verb} path "{action.path}"', "", "", ""
        )
    subject = f"{action.resource}.{action.group}" if action.group else action.resource
    if action.name:
        subject += f' "{action.name}"'
    scope = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    return forbidden(
        f'{subject} is forbidden: User "{user.name}" cannot {action.verb} resource "{action.what}" in API '
        f'group "{action.group}" {scope}',
        action.group,
        action.resource,
        action.name,
    )


def service_account_user(name: str) -> User:
    """The user behind `system:serviceaccount:NAMESPACE:NAME`, or any other user name without an entry."""
    parts = name.split(":")
    if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{parts[2]}", "system:authenticated")
        return User(name, groups)
    return User(name, ("system:authenticated",))


def _grants(rules: Iterable[Mapping[str, Any]], action: Action) -> bool:
    return any(_matches(rule, action) for rule in rules)


def _matches(rule: Mapping[str, Any], action: Action) -> bool:
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and action.verb not in verbs:
        return False
    if action.path:
        return any(fnmatchcase(action.path, pattern) for pattern in rule.get("nonResourceURLs") or ())
    groups, resources = rule.get("apiGroups") or (), rule.get("resources") or ()
    if "*" not in groups and action.group not in groups:
        return False
    names = rule.get("resourceNames") or ()
    if names and action.name not in names:
        return False
    return "*" in resources or action.what in resources or f"*/{action.subresource}" in resources


def _is_subject(subject: Mapping[str, Any], user: User) -> bool:
    kind, name = subject.get("kind"), subject.get("name")
    if kind == "User":
        return name == user.name
    if kind == "Group":
        return name in user.groups
    return user.name == f"system:serviceaccount:{subject.get('namespace')}:{name}"
