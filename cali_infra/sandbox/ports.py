"""What the sandbox's stand-ins know of each other: a few doors, and the plain values that pass through them.

The AWS stand-in calls the Kubernetes one when a cluster or its nodes come and go, and the OpenSearch one
when a domain does; the Kubernetes stand-in asks the AWS one who a token belongs to. None of them imports
another: whoever starts the process hands them over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class ClusterAddress:
    """Where an API server listens (an https URL), and the PEM of the authority behind its certificate."""

    endpoint: str
    ca_pem: bytes


@dataclass(frozen=True)
class NodeSpec:
    """One node of a node group: `name` is its host name in the VPC, `zone` an availability zone."""

    name: str
    zone: str
    instance_type: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScalingGroup:
    """An Auto Scaling group behind a node group, and how many nodes it may and should have."""

    name: str
    minimum: int
    maximum: int
    desired: int
    node_group: str = ""


class ClusterHost(Protocol):
    """Runs the API servers of clusters."""

    def create(self, name: str, version: str) -> ClusterAddress:
        """Start an API server for the cluster `name` at Kubernetes `version` (such as 1.35)."""

    def delete(self, name: str) -> None:
        """Stop it and forget all its objects; a name that is not there is no error."""

    def set_nodes(self, name: str, group: str, nodes: Sequence[NodeSpec]) -> None:
        """Make the nodes of node group `group` exactly these; none removes the group."""

    def set_addon(self, name: str, addon: str, version: str | None) -> None:
        """Install or update an add-on's objects; version None removes them."""


class DomainHost(Protocol):
    """Runs the HTTP side of OpenSearch domains."""

    def create(self, name: str, username: str, password: str) -> str:
        """Start a domain with this master user; returns `host:port`, to be spoken to over https."""

    def update(self, name: str, username: str, password: str) -> None:
        """Replace the master user."""

    def delete(self, name: str) -> None:
        """Stop it and forget its data; a name that is not there is no error."""


@dataclass(frozen=True)
class AccessPolicy:
    """An access policy of an entry, such as AmazonEKSEditPolicy; no namespaces is the whole cluster."""

    name: str
    namespaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Caller:
    """Who a token belongs to, with what the cluster's access entry gives.

    `arn` is the IAM principal of the entry (the role, not its session), `policies` its access policies, of
    which namespaces may hold `*` wildcards; `is_admin`: AmazonEKSClusterAdminPolicy on the whole cluster.
    """

    arn: str
    username: str
    groups: tuple[str, ...]
    policies: tuple[AccessPolicy, ...]
    is_admin: bool


class Cloud(Protocol):
    """What a pod in a cluster may find out of the AWS around it."""

    def scaling_groups(self, cluster: str) -> Sequence[ScalingGroup]:
        """The Auto Scaling groups of a cluster."""

    def pod_role(self, cluster: str, namespace: str, service_account: str) -> str | None:
        """The role that the pods of a service account get, None without an association."""

    def set_desired(self, cluster: str, group: str, desired: int, role: str) -> None:
        """Give an Auto Scaling group so many nodes, as this role; they come and go at once.

        Raises PermissionError where the role may not, LookupError for a group that there is not, and ValueError
        outside the group's own limits.
        """


class Authenticator(Protocol):
    """Tells whose token it is."""

    def __call__(self, cluster: str, token: str) -> Caller | None:
        """The caller behind a bearer `token` at `cluster`, or None: the API server then answers 401."""
