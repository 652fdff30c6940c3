"""EKS put together: one table of operations over one world, behind one lock."""

from __future__ import annotations

import threading

from cali_infra.sandbox.aws.calls import Call, Repeats, Result, Table
from cali_infra.sandbox.aws.eks.access import AccessEntries
from cali_infra.sandbox.aws.eks.addons import Addons
from cali_infra.sandbox.aws.eks.clusters import Clusters
from cali_infra.sandbox.aws.eks.nodegroups import Nodegroups
from cali_infra.sandbox.aws.eks.pods import PodIdentities
from cali_infra.sandbox.aws.eks.state import AccessEntry, World
from cali_infra.sandbox.aws.eks.tags import Tags
from cali_infra.sandbox.ports import ScalingGroup


class Eks:
    """The EKS of one stand-in."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.RLock()
        self._repeats = Repeats()
        pods = PodIdentities(world)
        self._nodegroups = Nodegroups(world)
        self._table = Table(
            "eks",
            {
                **Clusters(world).operations(),
                **self._nodegroups.operations(),
                **Addons(world, pods).operations(),
                **AccessEntries(world).operations(),
                **pods.operations(),
                **Tags(world).operations(),
            },
        )

    def answer(self, call: Call) -> Result:
        """Answer a call; raises ServiceError."""
        with self._lock:
            return self._repeats.answer(call, self._table.answer)

    def entry(self, cluster: str, principal_arn: str) -> AccessEntry | None:
        """The access entry of a principal; without a lock, because a cluster's host asks while it starts."""
        found = self._world.clusters.get(cluster)
        return None if found is None or found.mode == "CONFIG_MAP" else found.entries.get(principal_arn)

    def scaling_groups(self, cluster: str) -> list[ScalingGroup]:
        """The Auto Scaling groups behind the node groups of a cluster; none where there is no such cluster."""
        with self._lock:
            found = self._world.clusters.get(cluster)
            groups = found.nodegroups.values() if found else ()
            return [
                ScalingGroup(
                    group.group,
                    minimum=int(group.document["scalingConfig"]["minSize"]),
                    maximum=int(group.document["scalingConfig"]["maxSize"]),
                    desired=int(group.document["scalingConfig"]["desiredSize"]),
                    node_group=str(group.document["nodegroupName"]),
                )
                for group in groups
            ]

    def set_desired(self, cluster: str, group: str, desired: int, role: str) -> None:
        """Give an Auto Scaling group so many nodes; see `ports.Cloud`."""
        with self._lock:
            found = self._world.clusters.get(cluster)
            if found is None:
                raise LookupError(f"there is no cluster {cluster}")
            self._nodegroups.set_desired(found, group, desired, role)

    def pod_role(self, cluster: str, namespace: str, service_account: str) -> str | None:
        """The role that the pods of a service account get, None without an association."""
        with self._lock:
            found = self._world.clusters.get(cluster)
            for association in found.associations.values() if found else ():
                if (association["namespace"], association["serviceAccount"]) == (namespace, service_account):
                    return str(association["roleArn"])
            return None

    def close(self) -> None:
        """Delete every cluster at the host."""
        with self._lock:
            for name in list(self._world.clusters):
                self._world.host.delete(name)
                del self._world.clusters[name]
