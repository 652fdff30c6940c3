"""What a cluster consists of, as EKS describes it: node groups, add-ons, pod identities, and what ails them.

It takes a client of EKS and leaves botocore's exceptions to the door, `aws.py`. Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
# Questions to EKS at the same time: botocore keeps ten connections.
_AT_ONCE = 8


@dataclass(frozen=True)
class Issue:
    """What EKS finds wrong with a cluster, a node group or an add-on; `code` is EKS' own word for it."""

    code: str
    message: str
    resources: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" ({', '.join(self.resources)})" if self.resources else ""
        return f"{self.code}: {self.message}{where}"


@dataclass(frozen=True)
class NodeGroup:
    """A managed node group; `scaling_groups` are the names of its Auto Scaling groups."""

    name: str
    status: str
    version: str
    issues: tuple[Issue, ...]
    scaling_groups: tuple[str, ...]


@dataclass(frozen=True)
class Addon:
    """An add-on; `version` is its own, such as v1.20.1-eksbuild.1."""

    name: str
    status: str
    version: str
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class PodIdentity:
    """A pod identity association: the role that the pods of a service account get."""

    namespace: str
    service_account: str
    role_arn: str


def issues(found: Mapping[str, Any]) -> tuple[Issue, ...]:
    """The issues in the document of a cluster, a node group or an add-on."""
    return tuple(
        Issue(item.get("code", ""), item.get("message", ""), tuple(item.get("resourceIds") or ()))
        for item in (found.get("health") or {}).get("issues") or ()
    )


def node_groups(eks: Any, cluster: str) -> tuple[NodeGroup, ...]:
    """The cluster's managed node groups, by name."""

    def describe(name: str) -> NodeGroup:
        found = eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
        groups = (found.get("resources") or {}).get("autoScalingGroups") or ()
        return NodeGroup(
            found["nodegroupName"],
            found["status"],
            found.get("version", ""),
            issues(found),
            tuple(group["name"] for group in groups),
        )

    return _each(describe, sorted(_pages(eks, "list_nodegroups", "nodegroups", clusterName=cluster)))


def addons(eks: Any, cluster: str) -> tuple[Addon, ...]:
    """The cluster's add-ons, by name."""

    def describe(name: str) -> Addon:
        found = eks.describe_addon(clusterName=cluster, addonName=name)["addon"]
        return Addon(found["addonName"], found["status"], found.get("addonVersion", ""), issues(found))

    return _each(describe, sorted(_pages(eks, "list_addons", "addons", clusterName=cluster)))


def pod_identities(eks: Any, cluster: str) -> tuple[PodIdentity, ...]:
    """The cluster's pod identity associations; the list alone does not say which role each gives."""

    def describe(item: Mapping[str, Any]) -> PodIdentity:
        found = eks.describe_pod_identity_association(
            clusterName=cluster, associationId=item["associationId"]
        )["association"]
        return PodIdentity(found["namespace"], found["serviceAccount"], found["roleArn"])

    listed = _pages(eks, "list_pod_identity_associations", "associations", clusterName=cluster)
    return _each(describe, list(listed))


def _pages(eks: Any, operation: str, key: str, **names: str) -> Iterable[Any]:
    return [item for page in eks.get_paginator(operation).paginate(**names) for item in page[key]]


def _each(describe: Callable[[Any], T], items: Sequence[Any]) -> tuple[T, ...]:
    if not items:
        return ()
    with ThreadPoolExecutor(min(_AT_ONCE, len(items)), thread_name_prefix="eks") as pool:
        return tuple(pool.map(describe, items))
