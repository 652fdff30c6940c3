"""What the EKS stand-in remembers, and what its parts share.

It owns the records and how a resource under creation becomes ready when its time has come. Access entries
are immutable values replaced whole: the API servers ask for them from their own threads without a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cali_infra.sandbox.aws.calls import Call
from cali_infra.sandbox.aws.compute import Compute
from cali_infra.sandbox.aws.controls import Controls, Pace
from cali_infra.sandbox.aws.errors import ServiceError
from cali_infra.sandbox.aws.identity import Identities
from cali_infra.sandbox.ports import ClusterHost


@dataclass
class Making:
    """A resource under creation: when it is done on the clock, and the status it ends in."""

    done_at: float
    ends: str


@dataclass(frozen=True)
class PolicyAssociation:
    """An access policy on an entry; no namespaces is the whole cluster."""

    policy_arn: str
    namespaces: tuple[str, ...]
    associated_at: datetime
    modified_at: datetime

    def document(self) -> dict[str, Any]:
        """The association as the API shows it."""
        scope = {"type": "namespace" if self.namespaces else "cluster", "namespaces": list(self.namespaces)}
        return {
            "policyArn": self.policy_arn,
            "accessScope": scope,
            "associatedAt": self.associated_at,
            "modifiedAt": self.modified_at,
        }


@dataclass(frozen=True)
class AccessEntry:
    """An access entry; `unique_id` is IAM's id of the principal that it was made for, "" when unknown."""

    cluster: str
    principal_arn: str
    unique_id: str
    arn: str
    kind: str
    username: str
    groups: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime
    modified_at: datetime
    policies: tuple[PolicyAssociation, ...] = ()

    def document(self) -> dict[str, Any]:
        """The entry as the API shows it."""
        return {
            "clusterName": self.cluster,
            "principalArn": self.principal_arn,
            "kubernetesGroups": list(self.groups),
            "accessEntryArn": self.arn,
            "createdAt": self.created_at,
            "modifiedAt": self.modified_at,
            "tags": dict(self.tags),
            "username": self.username,
            "type": self.kind,
        }


@dataclass
class Resource:
    """A node group or an add-on: the API's document of it, and its creation while that goes on."""

    document: dict[str, Any]
    making: Making | None = None
    # Of a node group: its Auto Scaling group and subnets.
    group: str = ""


@dataclass
class Cluster:
    """A cluster and everything in it; documents are as the API shows them."""

    name: str
    account: str
    region: str
    document: dict[str, Any]
    making: Making | None
    endpoint: str
    ca_data: str
    nodegroups: dict[str, Resource] = field(default_factory=dict)
    addons: dict[str, Resource] = field(default_factory=dict)
    entries: dict[str, AccessEntry] = field(default_factory=dict)
    associations: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        """The authentication mode: API, API_AND_CONFIG_MAP or CONFIG_MAP."""
        return str(self.document["accessConfig"]["authenticationMode"])

    def arn(self, kind: str, *parts: str) -> str:
        """The ARN of something in this cluster."""
        return f"arn:aws:eks:{self.region}:{self.account}:{kind}/{'/'.join((self.name, *parts))}"

    def taggable(self) -> Iterator[tuple[str, dict[str, str]]]:
        """The ARN and the tags of everything in it that takes tags, but access entries."""
        yield self.document["arn"], self.document["tags"]
        for group in self.nodegroups.values():
            yield group.document["nodegroupArn"], group.document["tags"]
        for addon in self.addons.values():
            yield addon.document["addonArn"], addon.document["tags"]
        for association in self.associations.values():
            yield association["associationArn"], association["tags"]


@dataclass
class World:
    """What the parts of the EKS stand-in share."""

    identities: Identities
    host: ClusterHost
    controls: Controls
    clock: Callable[[], float]
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    clusters: dict[str, Cluster] = field(default_factory=dict)

    def cluster(self, call: Call, *, active: bool = False) -> Cluster:
        """The cluster that a call names; raises ServiceError without it, or while it is not ACTIVE."""
        name = str(call.get("clusterName") or call["name"])
        cluster = self.clusters.get(name)
        if cluster is None or (cluster.account, cluster.region) != (call.account, call.region):
            raise ServiceError(
                "ResourceNotFoundException", f"No cluster found for name: {name}.", {"clusterName": name}
            )
        self.settle(cluster)
        if active and cluster.document["status"] != "ACTIVE":
            raise ServiceError(
                "InvalidRequestException", f"Cluster '{name}' is not in ACTIVE status", {"clusterName": name}
            )
        return cluster

    def compute(self, call: Call) -> Compute:
        """EC2 where the call goes."""
        return Compute(call.account, call.region)

    def making(self, pace: Pace) -> Making | None:
        """A creation at that pace; None when it is done at once."""
        if pace.seconds <= 0:
            return None
        return Making(self.clock() + pace.seconds, pace.ends)

    def settle(self, cluster: Cluster) -> None:
        """Finish what has taken its time."""
        making = cluster.making
        if making is not None and self.clock() >= making.done_at:
            cluster.making = None
            cluster.document["status"] = making.ends
        if cluster.document["status"] == "ACTIVE" and "endpoint" not in cluster.document:
            cluster.document["endpoint"] = cluster.endpoint
            cluster.document["certificateAuthority"] = {"data": cluster.ca_data}
        for resource in (*cluster.nodegroups.values(), *cluster.addons.values()):
            if resource.making is not None and self.clock() >= resource.making.done_at:
                resource.document["status"] = resource.making.ends
                resource.making = None

    def update(
        self, cluster: Cluster, kind: str, parameters: Mapping[str, Any], owner: str = ""
    ) -> dict[str, Any]:
        """Record an update that is done already; `owner` names the node group or add-on it belongs to."""
        update = {
            "id": self.new_id(),
            "status": "Successful",
            "type": kind,
            "params": [{"type": each, "value": str(value)} for each, value in parameters.items()],
            "createdAt": self.now(),
            "errors": [],
        }
        cluster.updates[str(update["id"])] = {"owner": owner, "update": update}
        return update
